"""What the flags of a run say, in words: each origin of what is not finite, as a finding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives as p

from fbp.autodiff.graph import JaxprEqn, Literal
from fbp.autodiff.user_rules import backward_rule_around
from fbp.verify.flags import ELEMENTWISE, Bad, CloseUp, Flags, close_up, first
from fbp.verify.flow import Equation
from fbp.verify.mends import ADVICE, DOUBLE_WHERE, Number, Situation, situation
from fbp.verify.observe import observe
from fbp.verify.origin import Birth, Watched, births, causes, masking, results
from fbp.verify.report import Finding, Kind

DIVISORS = {p.div_p: 1, p.rsqrt_p: 0, p.integer_pow_p: 0, p.pow_p: 0}
"""What makes a zero of an infinite operand, and the number of that operand."""
WORDS = {Bad.NAN: "NaN", Bad.INF: "infinite"}


@dataclass(frozen=True)
class Result:
    """One leaf of what a program gives: in words, and the argument whose gradient it is."""

    name: str
    leaf: str | None = None


@dataclass(frozen=True)
class Run:
    """A program that was run and watched.

    Attributes:
      watched: its equations, and what was seen of them.
      leaves: what it was run on.
      names: the paths of these.
      results: what it gives.
      flags: what was seen of the results.
      differentiated: the arguments that are.
    """

    watched: Watched
    leaves: tuple[Any, ...]
    names: tuple[str, ...]
    results: tuple[Result, ...]
    flags: Flags
    differentiated: frozenset[str]


@dataclass(frozen=True)
class _Look:
    """What the second run saw: the birth, and the first bad entry of a result."""

    birth: CloseUp
    iteration: tuple[int, ...]
    entry: int
    value: Number


def findings(run: Run) -> list[Finding]:
    """Return the origins of what is bad in the results, the first one first; else a silent zero."""
    every_birth = births(
        run.watched, [start for starts in results(run.watched) for start in starts]
    )
    return [
        _finding(run, birth, every_birth) for birth in _origins(run, every_birth)
    ] or _silent_zero(run)


def _origins(run: Run, every_birth: Sequence[Birth]) -> list[Birth]:
    """Return the first birth, and those that no other one caused; one for each line."""
    real = [b for b in every_birth if b.equation is not None or _is_suspect(run, b)]
    if not real:
        return list(every_birth[:1])
    roots = [b for b in real if b == real[0] or not any(c in real for c in causes(run.watched, b))]
    by_line = {b.equation.source if b.equation else b.out: b for b in reversed(roots)}
    return sorted(by_line.values(), key=lambda birth: birth.time)


def _is_suspect(run: Run, birth: Birth) -> bool:
    """Return whether an argument's NaN or infinity is an origin: -inf in data is taken for a
    mask."""
    if not birth.is_input:
        return False
    if birth.bad is Bad.NAN or any(run.names[birth.out].startswith(w) for w in run.differentiated):
        return True
    return bool(np.any(np.asarray(run.leaves[birth.out]) == np.inf))


def _finding(run: Run, birth: Birth, every_birth: Sequence[Birth]) -> Finding:
    reached = [i for i, s in enumerate(results(run.watched)) if birth in births(run.watched, s)]
    gradients = [i for i in reached if run.results[i].leaf]
    reaches = f"It reaches {_listed([run.results[i].name for i in reached])}."
    if birth.equation is None:
        return _of_input(run, birth, reaches)
    chosen = (gradients or reached)[0]
    look = _look(run, birth, chosen)
    what, story, mend = _story(run, birth.equation, birth, look.birth, every_birth)
    aval: Any = run.watched.flow.graph.outvars[chosen].aval
    zeros = [r.leaf for i, r in enumerate(run.results) if r.leaf and run.flags.zeros[i] == 1]
    silent = f" The gradient of {', '.join(zeros)} is zero in every entry." if zeros else ""
    return replace(
        _at(birth.equation, look.iteration),
        message=f"{what}: {story}. {reaches}{silent} {mend}",
        leaf=run.results[chosen].leaf,
        index=_index(look.entry, aval.shape) if gradients else None,
        got=look.value,
    )


def _of_input(run: Run, birth: Birth, reaches: str) -> Finding:
    """Return what the program got, or what is written in it."""
    kind = "NaN" if birth.bad is Bad.NAN else "an infinity"
    if not birth.is_input:
        what = Situation.CONSTANT
        message = f"{what}: a constant of the program is {kind}. {reaches} {ADVICE[what]}"
        return Finding(Kind.NON_FINITE, message)
    value = np.asarray(run.leaves[birth.out])
    bad = np.isnan(value) if birth.bad is Bad.NAN else np.isinf(value)
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    what, name = Situation.INPUT, run.names[birth.out]
    return Finding(
        Kind.NON_FINITE,
        f"{what}: {name} has {kind} already, in {bad.sum()} of {bad.size} entries. {reaches} "
        f"{ADVICE[what]}",
        leaf=name,
        index=index,
        got=value[index].item(),
    )


def _silent_zero(run: Run) -> list[Finding]:
    """Return the first overflow that a division made zero, if a gradient has zeros."""
    zeros = [i for i, r in enumerate(run.results) if r.leaf and run.flags.zeros[i] > 0]
    equations = run.watched.flow.equations.values() if zeros else []
    starts = [
        (run.watched.flow.operands(equation)[DIVISORS[equation.eqn.primitive]], Bad.INF)
        for equation in equations
        if equation.eqn.primitive in DIVISORS and not equation.backward
    ]
    for birth in births(run.watched, starts):
        if birth.equation is not None:
            most = max(zeros, key=lambda i: run.flags.zeros[i])
            look = _look(run, birth, most)
            situation_of, story, _ = _story(run, birth.equation, birth, look.birth, [])
            if situation_of is Situation.OVERFLOW:
                leaf, what = run.results[most].leaf, Situation.SILENT_ZERO
                message = (
                    f"{what}: {story}; a division makes zero of it, and "
                    f"{run.flags.zeros[most]:.0%} of the gradient of {leaf} is zero. {ADVICE[what]}"
                )
                return [replace(_at(birth.equation, look.iteration), message=message, leaf=leaf)]
    return []


def _story(
    run: Run, equation: Equation, birth: Birth, seen: CloseUp, every_birth: Sequence[Birth]
) -> tuple[Situation, str, str]:
    """Return what happened, in a word and in a clause, and the mend."""
    eqn, forward = equation.eqn, run.watched.flow.forward(equation)
    values = [np.asarray(x).item() for x in seen.operands]
    derived = equation.backward and forward is not eqn
    name = str(forward.primitive) if derived else ""
    what = situation(str(eqn.primitive), birth.bad, values, name)
    story = f"{_shown(eqn, values)} {_short(np.asarray(seen.value).item())}"
    if rule := backward_rule_around(eqn):
        story = f"in {rule}, the backward rule of a custom_vjp function, {story}"
    elif derived:
        story = f"the derivative of {name} is {WORDS[birth.bad]}: {story}"
    aval: Any = eqn.outvars[birth.out].aval
    index = _index(int(seen.entry), aval.shape)
    story += f" at entry {list(index)}" if index else ""
    nans = [b for b in every_birth if b.bad is Bad.NAN and birth in causes(run.watched, b)]
    if nans and (after := nans[0].equation):
        where = "" if after.source in ("", equation.source) else f" at {after.source}"
        story += f", and {after.eqn.primitive} makes NaN of it{where}"
    for nan in (birth, *nans):
        if mask := masking(run.watched, nan):
            return (
                what,
                f"{story}, in a branch that is left out at {mask.source or 'a line of a library'}",
                DOUBLE_WHERE,
            )
    return what, story, ADVICE[what]


def _look(run: Run, birth: Birth, result: int) -> _Look:
    """Return a second run, for the entries and operands where a birth lies, and the entry of a
    result."""
    assert birth.equation is not None
    graph, key, loops = run.watched.flow.graph, birth.equation.site.key, birth.equation.user_loops
    counters = {counter: birth.iteration[: i + 1] for i, counter in loops if counter is not None}
    watch = close_up(key, birth.out, birth.bad, counters)

    @jax.jit
    def again(*leaves: Any) -> Any:
        outs, records = observe(graph, leaves, watch)
        return {key: seen.record for key, seen in records.items()}, first(outs[result])

    records, (entry, value) = jax.device_get(again(*run.leaves))
    iteration = (
        birth.iteration[i] if counter is None else int(np.max(records[counter].value))
        for i, counter in loops
    )
    return _Look(records[key], tuple(iteration), int(entry), value.item())


def _at(equation: Equation, iteration: tuple[int, ...]) -> Finding:
    """Return a finding at an equation, without words."""
    return Finding(
        Kind.NON_FINITE,
        "",
        equation=_written(equation.eqn),
        primitive=str(equation.eqn.primitive),
        iteration=iteration,
        source=equation.source or None,
    )


def _shown(eqn: JaxprEqn, values: Sequence[Number]) -> str:
    """Return the equation with its operands' values, as far as its verb."""
    numbers = ", ".join(map(_short, values))
    if eqn.primitive not in ELEMENTWISE:
        return f"{eqn.primitive} of operands as large as {numbers} gives"
    power = f", {eqn.params['y']}" if eqn.primitive is p.integer_pow_p else ""
    return f"{eqn.primitive}({numbers}{power}) ="


def _written(eqn: JaxprEqn) -> str:
    outs = ", ".join(v.aval.str_short() for v in eqn.outvars)
    ins = (
        str(a.val) if isinstance(a, Literal) and jnp.ndim(a.val) == 0 else a.aval.str_short()
        for a in eqn.invars
    )
    return f"{outs} = {eqn.primitive} {' '.join(ins)}"


def _index(entry: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(entry, shape))


def _short(x: Number) -> str:
    return f"{x:.4g}"


def _listed(words: Sequence[str]) -> str:
    *before, last = [*words[:3], *([f"{len(words) - 3} more"] if len(words) > 3 else [])]
    return f"{', '.join(before)} and {last}" if before else last
