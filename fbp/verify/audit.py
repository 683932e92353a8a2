"""Rules that users state, custom_jvp and custom_vjp, beside the derivative of their own functions.

Each use of such a function is watched while the program runs. Its rule and the derivative of its
body pull the same cotangent back; where they differ, the function's values decide: the slope of
the function along the entry that differs says which of the two is right, or that both are, as at
a kink.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

import fbp.autodiff
from fbp.autodiff import graph as g
from fbp.autodiff.avals import differentiable, struct
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import bind, evaluate
from fbp.autodiff.masks import merge, select
from fbp.verify.finite_difference import Slope
from fbp.verify.kinks import ENTRIES, slopes_at
from fbp.verify.localise import distance, larger
from fbp.verify.observe import Key, Site, Watch, observe, sites
from fbp.verify.precision import DOUBLE, function_of, in_precision
from fbp.verify.problem import Problem, unraveled, weighed
from fbp.verify.reference import in_double
from fbp.verify.report import Finding, Kind

CUSTOM = frozenset({p.custom_jvp_call_p, p.custom_vjp_call_p})
DOUBT = 1e-10
"""As a share of the largest entry: a smaller difference between the two is rounding."""


@dataclass(frozen=True)
class Doubt:
    """One operand of one custom function at which the rule and the derivative differ."""

    site: Site
    iteration: tuple[int, ...]
    operand: int
    entries: np.ndarray
    stated: np.ndarray
    derived: np.ndarray


def wrong_custom_rules(problem: Problem, declared: frozenset[str]) -> list[Finding]:
    """The custom rules that are not the derivatives of their functions, one finding each; those
    of functions that are named in `declared`, as declared."""
    loss = in_precision(DOUBLE, problem.loss, *problem.point)
    with jax.enable_x64(True):
        args = in_double(problem)
        program, _ = g.stage(loss, *args)
        if all(site.eqn.primitive not in CUSTOM for site in sites(program)):
            return []
        args = jax.tree.leaves(args)
        found: dict[str, Finding] = {}
        for doubt in _doubts(program, args):
            finding = _judged(program, args, doubt, declared)
            if finding is not None:
                found.setdefault(function_of(doubt.site.eqn), finding)
    return list(found.values())


def _doubts(program: Graph, args: Sequence[Any]) -> list[Doubt]:
    known = {site.key: site for site in sites(program)}
    _, records = jax.jit(lambda args: observe(program, args, Watch(_compare, _more_in_doubt)))(args)
    return [
        Doubt(known[key], tuple(iteration.tolist()), int(operand), *entries)
        for key, seen in sorted(jax.device_get(records).items())
        if seen.ran
        for share, operand, entries, iteration in seen.record
        if share > DOUBT
    ]


def _compare(site: Site, ins: Sequence[Any], _: Any, iteration: tuple[Any, ...]) -> Any:
    """For each operand, by how much the rule and the derivative differ, and where."""
    eqn = site.eqn
    if eqn.primitive not in CUSTOM:
        return None
    floats = [differentiable(a) and a.size > 0 for a in map(struct, eqn.invars)]
    stated = _gradient(lambda ins: bind(eqn, ins), floats, ins, jax.grad)
    derived = _derived(eqn, floats, ins)
    when = jnp.array([*iteration], jnp.int32)
    return [
        (*_difference(number, a, b), when)
        for number, a, b in zip(select(floats, range(len(ins))), stated, derived, strict=True)
    ]


def _derived(eqn: JaxprEqn, floats: Sequence[bool], ins: Sequence[Any]) -> list[Any]:
    """The derivative of the function's body; fbp's where JAX has none, as that of a while_loop."""
    body = g.body(eqn.params)
    try:
        return _gradient(lambda ins: evaluate(body, ins), floats, ins, jax.grad)
    except (ValueError, NotImplementedError):
        return _gradient(lambda ins: evaluate(body, ins), floats, ins, fbp.autodiff.grad)


def _gradient(
    fun: Callable, floats: Sequence[bool], ins: Sequence[Any], grad: Callable
) -> list[Any]:
    others = select([not f for f in floats], ins)
    chosen = [jnp.asarray(x) for x in select(floats, ins)]
    return grad(lambda xs: weighed(fun(merge(floats, xs, others))))(chosen)


def _difference(number: int, a: Any, b: Any) -> tuple[Any, Any, tuple[Any, Any, Any]]:
    a, b = a.ravel(), b.ravel()
    gap = distance(a, b)
    scale = jnp.maximum(_largest(a), _largest(b))
    share = jnp.max(gap) / jnp.maximum(scale, jnp.finfo(jnp.float64).tiny)
    order = jnp.asarray(np.random.default_rng(0).uniform(1, 2, gap.shape))
    some = min(ENTRIES, gap.size)
    _, most = lax.top_k(gap, some)
    _, others = lax.top_k(jnp.where(gap > DOUBT * scale, order, 0.0), some)
    entries = jnp.concatenate([most, others])
    return share, jnp.array(number), (entries, a[entries], b[entries])


def _largest(x: Any) -> Any:
    return jnp.max(jnp.where(jnp.isfinite(x), abs(x), 0.0))


def _more_in_doubt(before: Any, now: Any) -> Any:
    return [larger(a, b) for a, b in zip(before, now, strict=True)]


def _judged(
    program: Graph, args: Sequence[Any], doubt: Doubt, declared: frozenset[str]
) -> Finding | None:
    """What the function's values say of a rule that is not the derivative of its body."""
    eqn = doubt.site.eqn
    ins = _operands(program, args, doubt.site.key, doubt.iteration)
    body, operand = g.body(eqn.params), doubt.operand

    def value(x: Any) -> Any:
        return weighed(evaluate(body, [*ins[:operand], x, *ins[operand + 1 :]]))

    entries = [int(i) for i in doubt.entries]
    kink = None
    for i, (_, found) in enumerate(slopes_at(value, ins[operand], entries)):
        stated = float(np.real(doubt.stated[i]))
        if found.kind in ("jump", "unresolved"):
            continue
        if not found.contains(stated):
            return _finding(doubt, i, found, declared)
        if found.kind == "kink" and kink is None:
            kink = _kink(doubt, i, found)
    return kink


def _operands(
    program: Graph, args: Sequence[Any], key: Key, iteration: tuple[int, ...]
) -> list[Any]:
    """The operands of one equation in one iteration of the loops around it."""

    def measure(site: Site, ins: Sequence[Any], _: Any, now: tuple[Any, ...]) -> Any:
        if site.key != key:
            return None
        here = jnp.array([a == b for a, b in zip(now, iteration, strict=True)], bool)
        return jnp.all(here), [jnp.asarray(x) for x in ins]

    def keep(before: Any, now: Any) -> Any:
        return jax.tree.map(lambda x, y: jnp.where(now[0], y, x), before, now)

    _, records = jax.jit(lambda args: observe(program, args, Watch(measure, keep)))(args)
    _, ins = records[key].record
    return list(ins)


def _finding(doubt: Doubt, i: int, found: Slope, declared: frozenset[str]) -> Finding:
    eqn = doubt.site.eqn
    function = function_of(eqn)
    name = function.split(" at ")[0]
    shape = struct(eqn.invars[doubt.operand]).shape
    kind = "custom_jvp" if eqn.primitive is p.custom_jvp_call_p else "custom_vjp"
    wanted, got = found.value, float(np.real(doubt.stated[i]))
    on_purpose = name in declared
    message = f"the {kind} rule of {function} is not the derivative of the function"
    return Finding(
        kind=Kind.DECLARED if on_purpose else Kind.WRONG_CUSTOM_RULE,
        message=(
            f"{message}, as declared."
            if on_purpose
            else f"{message}: the function's values have the slope {wanted:.6g} +- "
            f"{found.error:.1g} there. Mend the rule, or, if it deviates on purpose, say so: "
            f"declared=[{name}]."
        ),
        index=unraveled(doubt.entries[i], shape),
        expected=wanted,
        got=got,
        primitive=str(eqn.primitive),
        operand=doubt.operand,
        iteration=doubt.iteration,
        source=doubt.site.source,
    )


def _kink(doubt: Doubt, i: int, found: Slope) -> Finding:
    eqn = doubt.site.eqn
    shape = struct(eqn.invars[doubt.operand]).shape
    return Finding(
        kind=Kind.KINK,
        message=(
            f"{function_of(eqn)} has a kink here, with slopes {found.left.value:.6g} and "
            f"{found.right.value:.6g} on its sides; its rule takes one between them, which is "
            "as right as any other."
        ),
        index=unraveled(doubt.entries[i], shape),
        got=float(np.real(doubt.stated[i])),
        primitive=str(eqn.primitive),
        operand=doubt.operand,
        iteration=doubt.iteration,
        source=doubt.site.source,
    )
