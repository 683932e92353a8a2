"""One use of a custom rule, tried: what it states beside plain differentiation of its function.

The rule is run with the cotangent that arrived and with random ones, near that in size and far
above it; the function is differentiated as if it had no rule, in its own precision and in float64.
Everything is one traceable function of the operands and the cotangents, so that uses within loops,
branches and shard_map are tried where they are, in every iteration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import get_abstract_mesh

from fbp.autodiff import avals, interpret
from fbp.autodiff import graph as g
from fbp.verify.kernels import without_kernels
from fbp.verify.observe import calls_out, sites
from fbp.verify.plain_derivative import (
    EPS,
    ROUNDED_CONSTANTS,
    finest_eps,
    has_rounded_constants,
    moved,
    perturbed,
    plain_derivative,
)
from fbp.verify.precision import DOUBLE, evaluate_in
from fbp.verify.rule_derivative import COLLECTIVES, second_derivative
from fbp.verify.rule_use import RuleUse, Staged, judged_operands, mismatched, run_rule
from fbp.verify.tried_cotangents import COMPARED, tried_cotangents
from fbp.verify.worst_entry import Row, largest_finite, magnitude, wide, worse, worst_entry

MULTIPLE = 10
"""How many times the error of plain differentiation in the same precision a rule's may be. The
tests of attention kernels allow two; a sum of some thousand terms in another order needs more."""
IN_DOUBLE = 1e-10
"""In float64: as a share of the largest entry, a smaller difference is rounding."""
BESIDE = 1e-6
"""How far beside the operands plain differentiation is asked whether it has a kink, as a share of
their size."""
KINK = 1e-3
"""How much it must differ on two sides of one, as a share of its largest entry."""
NEAR = 1
"""The number of the random cotangent that is as large as the arriving one."""


@dataclass(frozen=True)
class Label:
    """What a row compares, and the number of the operand, or of the output.

    'own' and 'double' are cotangents in the arguments' precision and in float64, 'undefined' those
    where plain differentiation has NaN, 'repeat' a second call, 'sum', 'multiple' and 'zero' say
    whether the rule is linear; 'value' is an output, 'second' the rule's own derivative.
    """

    check: str
    number: int | None


@dataclass(frozen=True, eq=False)
class RuleTrial:
    """What is compared of one use, in words that do not depend on the numbers.

    Attributes:
      labels: what each row is about.
      mismatched: operands whose cotangent has another type, with both types.
      unjudged: why there is no plain derivative, if there is none.
      second: why the derivative of the rule was not tried, if it was not.
    """

    labels: tuple[Label, ...]
    mismatched: tuple[tuple[int, str, str], ...] = ()
    unjudged: str = ""
    second: str = ""


def try_use(
    use: RuleUse, rule: Staged, ins: Sequence[Any], cts: Sequence[Any], twice: bool = True
) -> tuple[RuleTrial, Any]:
    """Try one use: what is compared, and an array of the worst entries, one row for each label;
    the rule's own derivative too, if `twice`."""
    labels: list[Label] = []
    rows: list[Row] = []
    if unlike := mismatched(use, rule):
        return RuleTrial((), unlike), jnp.zeros((0, len(Row._fields)))

    def add(check: str, number: int | None, row: Row) -> None:
        labels.append(Label(check, number))
        rows.append(row)

    arrays = _over_devices(rule, ins, arrays_of(use, rule, ins, cts))
    coarse = coarsest_of_rule(rule, use)
    for j, number in enumerate(judged_operands(use)):
        eps = float(jnp.finfo(avals.struct(use.eqn.invars[number]).dtype).eps)
        for check, row in _of_operand(arrays, j, eps, coarse).items():
            add(check, number, row)
    for number, row in _of_values(use, arrays["outs"], ins):
        add("value", number, row)
    second, reason = None, "the program with it does not compile"
    if twice:
        try:
            near = [x[NEAR] for x in arrays["tried"]]
            second, reason = second_derivative(use, rule, ins, near, coarse)
        except Exception as error:  # then the rule itself is judged nevertheless
            reason = str(error).strip().split("\n")[0] or type(error).__name__
    if second is not None:
        add("second", None, second)
    trial = RuleTrial(tuple(labels), (), arrays["unjudged"], reason)
    table = [jnp.stack([jnp.asarray(x, jnp.float64) for x in row]) for row in rows]
    return trial, jnp.stack(table) if table else jnp.zeros((0, len(Row._fields)))


def arrays_of(use: RuleUse, rule: Staged, ins: Sequence[Any], cts: Sequence[Any]) -> dict[str, Any]:
    """Return everything that is compared, as arrays: cotangents by operand, in the order of the
    tried cotangents."""
    tried = tried_cotangents(use, cts)
    compared = [x[:COMPARED] for x in tried]
    near = [x[NEAR] for x in tried]
    derivative, reason = plain_derivative(use, ins, near)
    chosen = tried if derivative is None else compared
    outs, stated = lax.map(lambda cts: run_rule(use, rule, ins, cts), chosen)
    arrays: dict[str, Any] = {
        "tried": tried,
        "outs": [x[0] for x in outs],
        "stated": stated,
        "double": run_rule(use, rule, ins, near, DOUBLE)[1],
        "unjudged": reason,
    }
    if any(calls_out(site.eqn) for site in sites(rule.graph)):
        arrays["again"] = run_rule(use, rule, ins, [x[0] for x in tried])[1]
    if derivative is None:
        return arrays
    arrays["plain"] = lax.map(lambda cts: derivative(None, ins, cts), compared)
    arrays["truth"] = lax.map(lambda cts: derivative(DOUBLE, ins, cts), compared)
    scales = jnp.array([finest_eps(use), EPS], jnp.float64)
    arrays["perturbed"] = lax.map(lambda s: derivative(DOUBLE, perturbed(ins, s), near), scales)
    if get_abstract_mesh().manual_axes:  # where values are not to be had alone
        sides = jnp.array([-BESIDE, BESIDE], jnp.float64)
        arrays["beside"] = lax.map(
            lambda s: lax.map(lambda cts: derivative(DOUBLE, moved(ins, s), cts), compared), sides
        )
    if has_rounded_constants(use.body):
        arrays["truth by constants"] = derivative(ROUNDED_CONSTANTS, ins, near)
    if has_rounded_constants(rule.graph):
        arrays["double by constants"] = run_rule(use, rule, ins, near, ROUNDED_CONSTANTS)[1]
    return arrays


def _over_devices(rule: Staged, ins: Sequence[Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the cotangents added over the devices, where a rule exchanges values and types do not
    say which of them each device has a part of (check_vma=False): only their sum counts then."""
    manual = get_abstract_mesh().manual_axes
    typed = any(jax.typeof(x).mat.varying for x in ins)
    if not manual or typed or not any(s.eqn.primitive in COLLECTIVES for s in sites(rule.graph)):
        return arrays
    others = ("tried", "outs", "unjudged")
    return {k: x if k in others else lax.psum(x, manual) for k, x in arrays.items()}


def _of_operand(arrays: dict[str, Any], j: int, eps: float, coarse: float) -> dict[str, Row]:
    stated = wide(arrays["stated"][j])
    rows: dict[str, Row] = {}
    if "again" in arrays:
        rows["repeat"] = worst_entry(wide(arrays["again"][j]), stated[0], 0.0, 0)
    if "truth" in arrays:
        return rows | _beside_plain(arrays, j, stated, eps, coarse)
    return rows | _linearity(arrays, stated, eps, coarse)


def _beside_plain(
    arrays: dict[str, Any], j: int, stated: Any, eps: float, coarse: float
) -> dict[str, Row]:
    """Compare with plain differentiation, where that is a number, in both precisions."""
    truth, plain = wide(arrays["truth"][j]), wide(arrays["plain"][j])
    shares = [
        largest_finite(wide(x) - truth[NEAR]) / magnitude(truth[NEAR])
        for x in arrays["perturbed"][j]
    ]
    native, undefined, undecided = [], [], jnp.array(False)
    for k in range(COMPARED):
        noise = jnp.maximum(largest_finite(plain[k] - truth[k]) / magnitude(truth[k]), shares[0])
        bar = MULTIPLE * jnp.maximum(noise, eps) * magnitude(truth[k])
        at_kink = _between_sides(arrays, j, k, stated[k], bar)
        got, defined = jnp.where(at_kink, truth[k], stated[k]), ~jnp.isnan(truth[k])
        native.append(worst_entry(jnp.where(defined, got, truth[k]), truth[k], bar, k))
        undefined.append(worst_entry(jnp.where(defined, truth[k], got), truth[k], bar, k))
        if k == NEAR:
            undecided = at_kink | ~defined
    double = jnp.where(undecided, truth[NEAR], wide(arrays["double"][j]))
    bar = _bar_in_double(arrays, j, truth[NEAR], shares[1], eps, coarse)
    return {
        "own": worse(native),
        "double": worst_entry(double, truth[NEAR], bar, NEAR),
        "undefined": worse(undefined),
    }


def _between_sides(arrays: dict[str, Any], j: int, k: int, stated: Any, bar: Any) -> Any:
    """Return at which entries plain differentiation has a kink, and what is stated lies between
    what it has on the two sides."""
    if "beside" not in arrays or jnp.iscomplexobj(stated):
        return jnp.zeros(stated.shape, bool)
    sides = jnp.stack([*wide(arrays["beside"][j])[:, k], wide(arrays["truth"][j][k])])
    low, high = jnp.nanmin(sides, 0), jnp.nanmax(sides, 0)
    kink = high - low > KINK * magnitude(sides)
    return kink & (stated >= low - bar) & (stated <= high + bar)


def _bar_in_double(
    arrays: dict[str, Any], j: int, truth: Any, noise: Any, eps: float, coarse: float
) -> Any:
    """Return the bar in float64, entry by entry: what the operands' and the constants' rounding
    does. A difference below the spacing of the entry in its own dtype is none."""
    share = jnp.maximum(MULTIPLE * jnp.maximum(noise, coarse), IN_DOUBLE)
    by_constants = jnp.zeros_like(jnp.real(truth))
    for by_constant, plain in (
        ("truth by constants", truth),
        ("double by constants", wide(arrays["double"][j])),
    ):
        if by_constant in arrays:
            by_constants += jnp.nan_to_num(abs(wide(arrays[by_constant][j]) - plain))
    least = jnp.where(jnp.isfinite(truth), eps * abs(truth), 0.0) if eps > EPS else 0.0
    return jnp.maximum(share * magnitude(truth), jnp.maximum(MULTIPLE * by_constants, least))


def _linearity(arrays: dict[str, Any], stated: Any, eps: float, coarse: float) -> dict[str, Row]:
    """Compare a rule with itself, for other cotangents: where plain differentiation compares, it
    says this too."""
    near, far, total, multiple, zero = (stated[k] for k in range(1, 6))
    size = jnp.maximum(magnitude(far), magnitude(near))
    first = arrays["tried"][0]
    smallest = jnp.finfo(jnp.float32).tiny
    factor = jnp.max(abs(first[4])) / jnp.maximum(jnp.max(abs(first[1])), smallest)
    share = 4 * MULTIPLE * max(eps, coarse)
    return {
        "sum": worst_entry(total, near + far, share * size, 3),
        "multiple": worst_entry(multiple, near * factor, share * magnitude(multiple), 4),
        "zero": worst_entry(zero, jnp.zeros_like(zero), eps * magnitude(stated[0]), 5),
    }


def _of_values(use: RuleUse, outs: Sequence[Any], ins: Sequence[Any]) -> list[tuple[int, Row]]:
    """Compare the values that the rule returns with those of the function."""
    body = use.body
    plain = interpret.eval_graph(body, ins)
    truths = evaluate_in(DOUBLE, without_kernels(body), ins)
    rows = []
    for number, (got, value, truth) in enumerate(zip(outs, plain, truths, strict=True)):
        if not avals.differentiable(jax.typeof(truth)) or not truth.size:
            continue
        eps = float(jnp.finfo(jax.typeof(value).dtype).eps)
        noise = largest_finite(wide(value) - wide(truth))
        bar = MULTIPLE * jnp.maximum(noise, eps * magnitude(wide(truth)))
        rows.append((number, worst_entry(wide(got), wide(truth), bar, 0)))
    return rows


def coarsest_of_rule(rule: Staged, use: RuleUse) -> float:
    """Return the spacing at 1 of the coarsest dtype in which rule and function compute when they
    are run in float64: that of kernels and callbacks, which have one precision."""
    spacings = [EPS]
    for graph in (rule.graph, use.body):
        program = without_kernels(graph)
        types = [avals.struct(v.aval) for v in program.invars]
        try:
            staged, _ = g.stage(
                lambda *xs, program=program: evaluate_in(DOUBLE, program, xs),
                *map(_type_in_double, types),
            )
        except Exception:  # what cannot be traced has been said to be so elsewhere
            continue
        values = [avals.struct(v) for s in sites(staged) for v in s.eqn.outvars]
        spacings += [float(jnp.finfo(a.dtype).eps) for a in values if avals.differentiable(a)]
    return max(spacings)


def _type_in_double(aval: Any) -> Any:
    if not avals.differentiable(aval):
        return aval
    return aval.update(dtype=jnp.dtype(DOUBLE.dtype(aval.dtype)))
