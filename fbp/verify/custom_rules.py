"""The uses of custom rules in a function's gradient, with their operands and cotangents.

fbp's reverse mode is given a table in which the rules of `custom_jvp` and `custom_vjp` functions
leave a mark in the backward program: the operands, and the cotangents that arrived. The marked
program is observed while it runs, and each use is tried where its mark is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as p
from jax.interpreters import mlir

from fbp.autodiff import avals, interpret, user_rules, value_and_grad
from fbp.autodiff import graph as g
from fbp.autodiff.graph import Graph
from fbp.autodiff.masks import merge_by_mask, select
from fbp.autodiff.rule import Call, Rule, Rules
from fbp.autodiff.undefined import is_undefined
from fbp.verify.observe import Key, Site, Watch, observe, sites
from fbp.verify.problem import CheckedFunction
from fbp.verify.reference import first_line
from fbp.verify.rule_trial import RuleTrial, try_use
from fbp.verify.rule_use import RuleUse, Staged, judged_operands, stage_rule

CUSTOM = frozenset({p.custom_jvp_call_p, p.custom_vjp_call_p})

MARK = Primitive("use_of_custom_rule")
MARK.multiple_results = True


@dataclass(frozen=True, eq=False)
class Marked:
    """What a mark holds: the use, and how many of its values are cotangents that pass through it;
    and which of the operands have a value."""

    use: RuleUse
    through: int
    known: tuple[bool, ...]


@MARK.def_abstract_eval
def _(*avals: Any, marked: Marked) -> list[Any]:
    return list(avals[: marked.through])


@MARK.def_impl
def _pass_on(*values: Any, marked: Marked) -> list[Any]:
    return list(values[: marked.through])


mlir.register_lowering(MARK, mlir.lower_fun(_pass_on, multiple_results=True))


def marking(rules: Rules) -> Rules:
    """Return the same table, in which each custom rule leaves a mark where it is used."""

    def mark(rule: Rule) -> Rule:
        def apply(call: Call, ins: list[Any]) -> tuple:
            outs, pullback = rule.apply(call, ins)
            return outs, lambda cts: _mark(call, ins, cts, pullback(cts))

        return replace(rule, apply=apply)

    return rules | [mark(rules[primitive]) for primitive in CUSTOM if primitive in rules]


def _mark(call: Call, ins: Sequence[Any], cts: Sequence[Any], in_cts: Sequence[Any]) -> list[Any]:
    stated = tuple(ct is not None and not _is_float0(ct) for ct in in_cts)
    known = tuple(not is_undefined(x) for x in ins)
    if not all(known):
        return list(in_cts)
    arrived = tuple(ct is not None and not _is_float0(ct) for ct in cts)
    through = select(stated, in_cts)
    use = RuleUse(call.eqn, _perturbed(call), arrived, g.body(call.params))
    values = [*through, *ins, *select(arrived, cts)]
    with interpret.eqn_scope(call.eqn):
        passed = MARK.bind(*map(jnp.asarray, values), marked=Marked(use, len(through), known))
    return merge_by_mask(
        stated, passed, [ct for ct, m in zip(in_cts, stated, strict=True) if not m]
    )


def _is_float0(x: Any) -> bool:
    return getattr(x, "dtype", None) == jax.dtypes.float0


def _perturbed(call: Call) -> tuple[bool, ...]:
    """Return which operands are differentiated; constants of the function are not, by its rule."""
    num_consts = call.params["num_consts"]
    return tuple(w and i >= num_consts for i, w in enumerate(call.needs_ct))


@dataclass(frozen=True, eq=False)
class Tried:
    """One use that was tried.

    Attributes:
      site: where its mark lies.
      use: the use.
      rule: its rule, staged.
      trial: what was compared.
      rows: the worst entries, one row of `rule_trial.Row` for each label of the trial.
      iterations: for each row, the counters of the loops around.
      ran: whether it ran at all.
    """

    site: Site
    use: RuleUse
    rule: Staged | None
    trial: RuleTrial
    rows: np.ndarray
    iterations: np.ndarray
    ran: bool


@dataclass(frozen=True, eq=False)
class Uses:
    """A program with the uses in it, how to read one off its equation, and what is to be said of
    it."""

    graph: Graph
    read: Callable[[Site, Sequence[Any]], tuple[RuleUse, list[Any], list[Any]] | None]
    note: str = ""


def uses_of(problem: CheckedFunction, rules: Rules) -> Uses:
    """Return the backward program with marks; the forward program, with cotangents of ones, where
    fbp cannot differentiate the function.

    The function is staged beforehand: fbp's transforms trace a function with a rule by its rule
    alone, and the equations of this program hold the function itself.
    """
    program, _ = g.stage(problem.loss, *problem.point)

    def loss(leaves: Sequence[Any], arrays: Sequence[Any]) -> Any:
        (value,) = interpret.eval_graph(program, [*leaves, *arrays])
        return value

    try:
        graph, _ = g.stage(value_and_grad(loss, rules=marking(rules)), *problem.point)
        return Uses(graph, _read_mark)
    except Exception as error:  # a primitive without a rule, a gradient that is no program
        return Uses(program, _read_equation, f"{NOT_ARRIVING} ({first_line(error)})")


NOT_ARRIVING = (
    "could not check the custom rules with the cotangents that arrive, only with random ones: fbp "
    "cannot differentiate the function"
)


def custom_equations(problem: CheckedFunction) -> list[Site]:
    """Return the uses of custom rules in the function itself."""
    graph, _ = g.stage(problem.loss, *problem.point)
    return [site for site in sites(graph) if site.eqn.primitive in CUSTOM and site.eqn.outvars]


def _read_mark(site: Site, ins: Sequence[Any]) -> tuple[RuleUse, list[Any], list[Any]] | None:
    if site.eqn.primitive is not MARK:
        return None
    marked = site.eqn.params["marked"]
    values = [jnp.asarray(x) for x in ins[marked.through :]]
    count = len(marked.known)
    return marked.use, values[:count], values[count:]


def _read_equation(site: Site, ins: Sequence[Any]) -> tuple[RuleUse, list[Any], list[Any]] | None:
    eqn = site.eqn
    if eqn.primitive not in CUSTOM:
        return None
    num_consts = user_rules.constants_before(eqn)
    active = tuple(
        i >= num_consts and avals.differentiable(v.aval) for i, v in enumerate(eqn.invars)
    )
    arrived = tuple(avals.differentiable(v.aval) for v in eqn.outvars)
    cts = [jnp.ones(v.aval.shape, v.aval.dtype) for v in select(arrived, eqn.outvars)]
    return RuleUse(eqn, active, arrived, g.body(eqn.params)), [jnp.asarray(x) for x in ins], cts


def tried(uses: Uses, args: Sequence[Any]) -> list[Tried]:
    """Try every use, in every iteration of the loops around it, in one compiled program."""
    try:
        return _tried(uses, args, twice=True)
    except Exception:  # what a compiler raises for a derivative of a rule
        return _tried(uses, args, twice=False)


def _tried(uses: Uses, args: Sequence[Any], twice: bool) -> list[Tried]:
    with_x64 = bool(jax.config.read("jax_enable_x64"))
    notes: dict[Key, tuple[Site, RuleUse, Staged | None, RuleTrial]] = {}

    def measure(site: Site, ins: Sequence[Any], _: Any, iteration: tuple[Any, ...]) -> Any:
        read = uses.read(site, ins)
        if read is None:
            return None
        use, values, cts = read
        rule, trial, rows = None, RuleTrial(()), jnp.zeros((0, 7))
        if judged_operands(use) and cts:
            try:
                rule = stage_rule(use, with_x64)
                trial, rows = try_use(use, rule, values, cts, twice)
            except Exception as error:  # one rule that cannot be tried takes down itself alone
                reason = str(error).strip().split("\n")[0] or type(error).__name__
                trial, rows = RuleTrial((), unjudged=reason), jnp.zeros((0, 7))
        notes[site.key] = site, use, rule, trial
        when = jnp.array([jnp.asarray(i, jnp.int32) for i in iteration], jnp.int32)
        return rows, jnp.broadcast_to(when, (rows.shape[0], len(iteration)))

    def merge_rows(before: Any, now: Any) -> Any:
        worse = now[0][:, :1] > before[0][:, :1]
        return jnp.where(worse, now[0], before[0]), jnp.where(worse, now[1], before[1])

    with jax.enable_x64(True):
        run = jax.jit(lambda args: observe(uses.graph, args, Watch(measure, merge_rows))[1])
        records = jax.device_get(run(list(args)))
    results: list[Any] = []
    for key, seen in sorted(records.items()):
        results.append([*notes[key], *map(np.asarray, seen.record), bool(seen.ran)])
    return [Tried(*result) for result in results]


def operands(
    uses: Uses, args: Sequence[Any], iterations: Mapping[Key, tuple[int, ...]]
) -> dict[Key, tuple[list[Any], list[Any]]]:
    """Return the operands and the arriving cotangents of some uses, each in one iteration."""

    def measure(site: Site, ins: Sequence[Any], _: Any, now: tuple[Any, ...]) -> Any:
        read = uses.read(site, ins) if site.key in iterations else None
        if read is None:
            return None
        same = [a == b for a, b in zip(now, iterations[site.key], strict=True)]
        return jnp.all(jnp.array(same, bool)), read[1], read[2]

    def keep(before: Any, now: Any) -> Any:
        return jax.tree.map(lambda x, y: jnp.where(now[0], y, x), before, now)

    run = jax.jit(lambda args: observe(uses.graph, args, Watch(measure, keep))[1])
    records = jax.device_get(run(list(args)))
    return {key: (seen.record[1], seen.record[2]) for key, seen in records.items()}


def is_rule(eqn: JaxprEqn) -> str:
    """Return what kind of rule an equation has."""
    return "custom_jvp" if eqn.primitive is p.custom_jvp_call_p else "custom_vjp"
