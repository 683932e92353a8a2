"""One use of a custom rule, tried: what it states beside plain differentiation of its function.

The rule is run with the cotangent that arrived and with random ones, near that in size and far
above it; the function is differentiated as if it had no rule, in its own precision and in float64.
Everything is one traceable function of the operands and the cotangents, so that uses within loops,
branches and shard_map are tried where they are, in every iteration.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Literal
from jax.extend.core import primitives as p

import fbp.autodiff
from fbp.autodiff import avals, interpret, user_rules
from fbp.autodiff import graph as g
from fbp.autodiff.graph import Graph
from fbp.autodiff.masks import merge, not_, select
from fbp.verify.observe import opaque, sites
from fbp.verify.precision import DOUBLE, evaluate

MULTIPLE = 10
"""How many times the error of plain differentiation in the same precision a rule's may be. The
tests of attention kernels allow two; a sum of some thousand terms in another order needs more."""
FINE = 1e-10
"""In float64: as a share of the largest entry, a smaller difference is rounding."""
FAR = 1024.0
"""How far above the arriving cotangent the larger random one is; in float16, which ends at 65504,
a sixteenth of that."""
EPS = float(jnp.finfo(jnp.float64).eps)


@dataclass(frozen=True, eq=False)
class Use:
    """One use of a custom rule: the equation, which of its operands are differentiated, and which
    of its outputs get a cotangent."""

    eqn: JaxprEqn
    wanted: tuple[bool, ...]
    arrived: tuple[bool, ...]


class Row(NamedTuple):
    """The worst entry of one comparison.

    Attributes:
      ratio: its error over the bar.
      error: the error, as a share of the largest entry.
      bar: the bar, likewise.
      entry: the number of the entry.
      got: what the rule states there.
      expected: what it should be.
      cotangent: the number of the cotangent it was tried with.
    """

    ratio: Any
    error: Any
    bar: Any
    entry: Any
    got: Any
    expected: Any
    cotangent: Any


@dataclass(frozen=True)
class Label:
    """What a row compares: 'own' and 'fine' are cotangents in the arguments' precision and in
    float64, 'value' an output, and operand or output is its number."""

    check: str
    number: int | None


@dataclass(frozen=True, eq=False)
class Staged:
    """A rule as a program: (operands, cotangents) -> (outputs, cotangents of the operands)."""

    graph: Graph
    num_outs: int
    made: tuple[bool, ...]
    types: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Trial:
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


def stage_rule(use: Use, with_x64: bool) -> Staged:
    """Trace the rule, with the dtypes that it has outside of the check."""
    eqn, wanted = use.eqn, use.wanted
    ins = [avals.struct(v.aval) for v in eqn.invars]
    cts = [avals.cotangent_type(v.aval) for v in select(use.arrived, eqn.outvars)]

    def run(ins: list[Any], cts: list[Any]) -> tuple[list[Any], list[Any]]:
        if eqn.primitive is p.custom_vjp_call_p:
            outs, residuals = user_rules.custom_vjp_forward(eqn, ins, wanted)
            arrived = merge(use.arrived, cts, [None] * sum(not_(use.arrived)))
            stated = user_rules.custom_vjp_backward(eqn, residuals, arrived)
        else:
            others = select(not_(wanted), ins)
            outs, pull = jax.vjp(
                lambda *xs: interpret.bind(eqn, merge(wanted, xs, others)), *select(wanted, ins)
            )
            zeros = [avals.zeros_cotangent(v.aval) for v in select(not_(use.arrived), eqn.outvars)]
            stated = merge(wanted, pull(merge(use.arrived, cts, zeros)), [None] * len(others))
        return outs, [ct if w else None for ct, w in zip(stated, wanted, strict=True)]

    with jax.enable_x64(with_x64):
        graph, (outs, stated) = g.stage(run, ins, cts)
    made = tuple(ct is not None for ct in stated)
    return Staged(graph, len(outs), made, tuple(ct for ct in stated if ct is not None))


def judged_operands(use: Use) -> list[int]:
    """The operands whose cotangents are compared."""
    return [
        i
        for i, (v, w) in enumerate(zip(use.eqn.invars, use.wanted, strict=True))
        if w and avals.differentiable(v.aval) and avals.struct(v).size
    ]


def arrays_of(use: Use, rule: Staged, ins: Sequence[Any], cts: Sequence[Any]) -> dict[str, Any]:
    """Everything that is compared, as arrays: cotangents by operand, in the order of the tried
    cotangents (arriving, near it, far above it)."""
    numbers = judged_operands(use)
    tried = tried_cotangents(use, cts)
    stated = lax.map(lambda cts: _stated(use, rule, numbers, None, ins, cts), tried)
    near = [x[1] for x in tried]
    found: dict[str, Any] = {
        "tried": tried,
        "stated": stated,
        "fine": _stated(use, rule, numbers, DOUBLE, ins, near),
    }
    body = g.body(use.eqn.params)
    three = [x[:3] for x in tried]
    derive, reason = _plain_derivative(use, body, numbers, ins, three)
    found["unjudged"] = reason
    if derive is not None:
        found["plain"] = lax.map(lambda cts: derive(None, ins, cts), three)
        found["truth"] = lax.map(lambda cts: derive(DOUBLE, ins, cts), three)
        shaken = lax.map(lambda s: derive(DOUBLE, _shaken(ins, s), near), _scales(use))
        found["shaken"] = shaken
    return found


def _scales(use: Use) -> Any:
    return jnp.array([_eps(use), EPS], jnp.float64)


def _eps(use: Use) -> float:
    """The spacing at 1 of the finest dtype among operands and outputs."""
    values = [avals.struct(v) for v in (*use.eqn.invars, *use.eqn.outvars)]
    types = [a for a in values if avals.differentiable(a)]
    return min(float(jnp.finfo(a.dtype).eps) for a in types)


def _shaken(ins: Sequence[Any], scale: Any) -> list[Any]:
    """The operands with relative errors of this size, in float64."""

    def one(i: int, x: Any) -> Any:
        aval = avals.struct(x)
        if not avals.differentiable(aval):
            return x
        noise = np.random.default_rng(i).uniform(-1, 1, aval.shape)
        return DOUBLE.cast(x) * (1 + scale * noise)

    return [one(i, x) for i, x in enumerate(ins)]


def tried_cotangents(use: Use, cts: Sequence[Any]) -> list[Any]:
    """By output, rows: what arrived; near it; far above it; the sum of these two; 1024 times what
    is near; zero; what arrived, once more."""
    rows = []
    for number, (ct, v) in enumerate(zip(cts, select(use.arrived, use.eqn.outvars), strict=True)):
        size = jnp.max(jnp.where(jnp.isfinite(ct), abs(ct), 0), initial=0)
        size = jnp.where(size > 0, size, 1).astype(ct.dtype)
        near, far = (_random(k, number, v.aval, ct.dtype) * size for k in (0, 1))
        factor = jnp.asarray(FAR / 16 if ct.dtype == jnp.float16 else FAR, ct.dtype)
        far = far * factor
        zero = jnp.zeros_like(ct)
        rows.append(jnp.stack([ct, near, far, near + far, near * factor, zero, ct]))
    return rows


def _random(k: int, number: int, aval: Any, dtype: Any) -> Any:
    rng = np.random.default_rng(zlib.crc32(f"{k} {number}".encode()))
    x = rng.uniform(0.25, 1, aval.shape) * rng.choice([-1, 1], aval.shape)
    x = x + 1j * np.roll(x, 1) if avals.is_complex(dtype) else x
    return jnp.asarray(x, dtype)


def _stated(
    use: Use, rule: Staged, numbers: Sequence[int], to: Any, ins: Sequence[Any], cts: Sequence[Any]
) -> list[Any]:
    """What the rule states for the judged operands, in a precision or in its own."""
    args = (*ins, *[_like(c, v.aval) for c, v in zip(cts, rule_cts(use), strict=True)])
    outs = interpret.evaluate(rule.graph, args) if to is None else evaluate(to, rule.graph, args)
    made = iter(outs[rule.num_outs :])
    stated = [next(made) if m else None for m in rule.made]
    return [_fitted(stated[i], use.eqn.invars[i].aval) for i in numbers]


def rule_cts(use: Use) -> list[Any]:
    """The outputs that get a cotangent."""
    return select(use.arrived, use.eqn.outvars)


def _like(x: Any, aval: Any) -> Any:
    """The value, varying over the devices over which its type does."""
    have = jax.typeof(x)
    missing = avals.cotangent_type(aval).mat.varying - have.mat.varying
    return lax.pcast(x, tuple(missing), to="varying") if missing else x


def _fitted(ct: Any, aval: Any) -> Any:
    """Zeros for None; what has another shape is no cotangent, and is compared as infinity."""
    if ct is None:
        return jnp.zeros(aval.shape, aval.dtype)
    if ct.shape != aval.shape:
        return jnp.full(aval.shape, jnp.inf, aval.dtype)
    return ct


Derive = Callable[[Any, Sequence[Any], Sequence[Any]], list[Any]]


def _plain_derivative(
    use: Use, body: Graph, numbers: Sequence[int], ins: Sequence[Any], tried: Sequence[Any]
) -> tuple[Derive | None, str]:
    """The derivative of the function without its rule: by JAX, by fbp where JAX has none, as that
    of a while_loop, or the reason why there is none."""

    def by(grad: Callable) -> Derive:
        def derive(to: Any, ins: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            ins = [jnp.asarray(x if to is None else to.cast(x)) for x in ins]
            chosen = [ins[i] for i in numbers]

            def pulled(xs: list[Any]) -> Any:
                given = list(ins)
                for i, x in zip(numbers, xs, strict=True):
                    given[i] = x
                outs = interpret.evaluate(body, given) if to is None else evaluate(to, body, given)
                return _dot(cts, select(use.arrived, outs))

            return grad(pulled)(chosen)

        return derive

    reason = ""
    for grad in (jax.grad, fbp.autodiff.grad):
        derive = by(grad)
        try:
            jax.eval_shape(
                lambda ins, cts, d=derive: d(DOUBLE, ins, cts), ins, [x[0] for x in tried]
            )
            return derive, ""
        except Exception as error:  # whatever a program without a derivative raises
            reason = str(error).strip().split("\n")[0]
    return None, reason


def _dot(cts: Sequence[Any], outs: Sequence[Any]) -> Any:
    total: Any = 0.0
    for ct, out in zip(cts, outs, strict=True):
        total = total + jnp.sum(jnp.real(ct.astype(out.dtype) * out))
    return total


def compare(
    use: Use, rule: Staged, ins: Sequence[Any], cts: Sequence[Any], twice: bool = True
) -> tuple[Trial, Any]:
    """Try one use: what is compared, and an array of the worst entries, one row for each label;
    the rule's own derivative too, if `twice`."""
    labels: list[Label] = []
    rows: list[Row] = []
    if mismatched := _mismatched(use, rule):
        return Trial((), mismatched), jnp.zeros((0, len(Row._fields)))

    def add(check: str, number: int | None, row: Row) -> None:
        labels.append(Label(check, number))
        rows.append(row)

    arrays = arrays_of(use, rule, ins, cts)
    numbers, coarse = judged_operands(use), _coarsest(rule, use)
    for j, number in enumerate(numbers):
        eps = float(jnp.finfo(avals.struct(use.eqn.invars[number]).dtype).eps)
        for check, row in _of_operand(arrays, j, eps, coarse, _literals(rule, use)).items():
            add(check, number, row)
    for number, check, row in _of_values(use, rule, ins):
        add(check, number, row)
    second, reason = None, "the program with it does not compile"
    if twice:
        second, reason = _second_derivative(use, rule, numbers, ins, arrays["tried"], coarse)
    if second is not None:
        add("second", None, second)
    trial = Trial(tuple(labels), (), arrays["unjudged"], reason)
    table = [jnp.stack([jnp.asarray(x, jnp.float64) for x in row]) for row in rows]
    return trial, jnp.stack(table) if table else jnp.zeros((0, len(Row._fields)))


def _of_operand(
    arrays: dict[str, Any], j: int, eps: float, coarse: float, literals: float
) -> dict[str, Row]:
    stated = _wide(arrays["stated"][j])
    found: dict[str, Row] = {"repeat": _worst(stated[6], stated[0], 0.0, 0)}
    if "truth" in arrays:
        truth, plain = _wide(arrays["truth"][j]), _wide(arrays["plain"][j])
        shaken = [_largest(_wide(x) - truth[1]) / _size(truth[1]) for x in arrays["shaken"][j]]
        own = []
        for k in range(3):
            noise = jnp.maximum(_largest(plain[k] - truth[k]) / _size(truth[k]), shaken[0])
            bar = MULTIPLE * jnp.maximum(noise, eps) * _size(truth[k])
            own.append(_worst(stated[k], truth[k], bar, k))
        found["own"] = _worse(own)
        fine = jnp.maximum(MULTIPLE * jnp.maximum(shaken[1], coarse), max(FINE, 2 * literals))
        bar = fine * _size(truth[1])
        found["fine"] = _worst(_wide(arrays["fine"][j]), truth[1], bar, 1)
    size = jnp.maximum(_size(stated[2]), _size(stated[1]))
    factor = jnp.max(abs(arrays["tried"][0][4])) / jnp.maximum(
        jnp.max(abs(arrays["tried"][0][1])), jnp.finfo(jnp.float32).tiny
    )
    bar = 4 * MULTIPLE * max(eps, coarse) * size
    found["sum"] = _worst(stated[3], stated[1] + stated[2], bar, 3)
    wide = 4 * MULTIPLE * max(eps, coarse) * _size(stated[4])
    found["multiple"] = _worst(stated[4], stated[1] * factor, wide, 4)
    found["zero"] = _worst(stated[5], jnp.zeros_like(stated[5]), eps * _size(stated[0]), 5)
    return found


def _wide(x: Any) -> Any:
    return DOUBLE.cast(x)


def _size(x: Any) -> Any:
    return jnp.maximum(_largest(x), float(jnp.finfo(jnp.float64).tiny))


def _largest(x: Any) -> Any:
    """The largest finite magnitude."""
    return jnp.max(jnp.where(jnp.isfinite(x), abs(x), 0.0), initial=0.0)


def _worst(got: Any, expected: Any, bar: Any, cotangent: int) -> Row:
    """The entry that is farthest off; two NaNs are equal, and a NaN and a number infinitely far."""
    got, expected = jnp.ravel(got), jnp.ravel(expected)
    apart = abs(got - expected)
    apart = jnp.where((got == expected) | (jnp.isnan(got) & jnp.isnan(expected)), 0.0, apart)
    apart = jnp.where(jnp.isnan(apart), jnp.inf, apart)
    worst = jnp.argmax(apart)
    size = jnp.maximum(_size(expected), _size(got))
    least = jnp.finfo(jnp.float64).tiny
    return Row(
        jnp.where(apart[worst] > 0, apart[worst] / jnp.maximum(bar, least), 0.0),
        apart[worst] / size,
        bar / size,
        worst,
        jnp.real(got[worst]),
        jnp.real(expected[worst]),
        cotangent,
    )


def _worse(rows: Sequence[Row]) -> Row:
    worst = rows[0]
    for row in rows[1:]:
        worse = row.ratio > worst.ratio
        worst = Row(*(jnp.where(worse, b, a) for a, b in zip(worst, row, strict=True)))
    return worst


def _of_values(use: Use, rule: Staged, ins: Sequence[Any]) -> list[tuple[int, str, Row]]:
    """The values that the rule returns beside those of the function."""
    body, n = g.body(use.eqn.params), rule.num_outs
    cts = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in rule_cts(use)]
    cts = [_like(c, v.aval) for c, v in zip(cts, rule_cts(use), strict=True)]
    pairs = zip(
        interpret.evaluate(rule.graph, (*ins, *cts))[:n],
        interpret.evaluate(body, ins),
        evaluate(DOUBLE, body, ins),
        strict=True,
    )
    found = []
    for number, (got, plain, truth) in enumerate(pairs):
        if not avals.differentiable(jax.typeof(truth)) or not truth.size:
            continue
        eps = float(jnp.finfo(jax.typeof(plain).dtype).eps)
        noise = _largest(_wide(plain) - _wide(truth))
        bar = MULTIPLE * jnp.maximum(noise, eps * _size(_wide(truth)))
        found.append((number, "value", _worst(_wide(got), _wide(truth), bar, 0)))
    return found


def _coarsest(rule: Staged, use: Use) -> float:
    """The spacing at 1 of the coarsest dtype in which rule and function compute when they are run
    in float64: that of kernels and callbacks, which have one precision."""
    spacings = [EPS]
    for graph in (rule.graph, g.body(use.eqn.params)):
        types = [avals.struct(v.aval) for v in graph.invars]
        try:
            wide, _ = g.stage(
                lambda *xs, graph=graph: evaluate(DOUBLE, graph, xs), *map(_double_type, types)
            )
        except Exception:  # what cannot be traced has been said to be so elsewhere
            continue
        made = [avals.struct(v) for s in sites(wide) for v in s.eqn.outvars]
        spacings += [float(jnp.finfo(a.dtype).eps) for a in made if avals.differentiable(a)]
    return max(spacings)


def _literals(rule: Staged, use: Use) -> float:
    """What the rounding of constants to their own dtype may come to in float64, as a share."""
    graphs = (rule.graph, g.body(use.eqn.params))
    rounded = any(_rounded(a) for graph in graphs for s in sites(graph) for a in s.eqn.invars)
    return _eps(use) if rounded else 0.0


def _double_type(aval: Any) -> Any:
    return (
        aval.update(dtype=np.dtype(DOUBLE.dtype(aval.dtype)))
        if avals.differentiable(aval)
        else aval
    )


def _rounded(atom: Any) -> bool:
    """Whether an operand is a constant number that a narrower dtype may have rounded: one with a
    long mantissa, unlike 0.5 or 3."""
    if not isinstance(atom, Literal) or not avals.differentiable(atom.aval):
        return False
    if float(jnp.finfo(avals.struct(atom).dtype).eps) <= EPS:
        return False
    values = np.ravel(np.asarray(atom.val).astype(np.float64))
    mantissa = np.frexp(values[np.isfinite(values)])[0] * 64
    return bool(np.any(mantissa != np.round(mantissa)))


def _second_derivative(
    use: Use,
    rule: Staged,
    numbers: Sequence[int],
    ins: Sequence[Any],
    tried: Sequence[Any],
    coarse: float,
) -> tuple[Row | None, str]:
    """The derivative of what the rule states, along one direction, beside a difference of it."""
    if closed := opaque(rule.graph):
        return None, f"it holds {closed[0].eqn.primitive}"
    h = coarse ** (1 / 3)
    try:
        along, value = second_order(use, rule, numbers, ins, [x[1] for x in tried])
        by_rule = _slope_of(along)
        size = value(jnp.float64(0))
    except Exception as error:  # whatever a rule raises that has no derivative
        return None, str(error).strip().split("\n")[0] or type(error).__name__
    ahead, behind = lax.map(along, jnp.array([h, -h], jnp.float64))
    by_values = (ahead - behind) / (2 * h)
    bar = jnp.maximum(30 * coarse ** (2 / 3), 1e-5) * jnp.maximum(abs(by_rule), abs(by_values))
    return _worst(by_rule, by_values, bar + 30 * coarse / h * size, 1), ""


def _slope_of(along: Callable[[Any], Any]) -> Any:
    """The derivative at 0: reverse, which custom_vjp functions within allow; forward, which loops
    of unknown length do."""
    zero = jnp.float64(0)
    try:
        return jax.grad(along)(zero)
    except (ValueError, NotImplementedError, TypeError):  # a loop of unknown length
        pass

    def forward(t: Any) -> Any:
        return jax.jvp(along, (t,), (jnp.ones_like(t),))[1]

    program, _ = g.stage(forward, zero)
    if any(s.eqn.primitive.name == "custom_lin" for s in sites(program)):
        raise NotImplementedError("neither forward nor reverse differentiation goes through it")
    return forward(zero)


def second_order(
    use: Use, rule: Staged, numbers: Sequence[int], ins: Sequence[Any], cts: Sequence[Any]
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """A weighed sum of what the rule states, t along a direction, and the sum of its terms'
    magnitudes."""
    moves, weights = (
        [
            np.random.default_rng([k, i]).uniform(0.25, 1, avals.struct(use.eqn.invars[i]).shape)
            for i in numbers
        ]
        for k in (3, 4)
    )

    def terms(t: Any) -> list[Any]:
        moved = [DOUBLE.cast(x) if avals.differentiable(jax.typeof(x)) else x for x in ins]
        for i, d in zip(numbers, moves, strict=True):
            scale = jnp.sqrt(jnp.mean(jnp.square(abs(moved[i]))))
            scale = jnp.where(scale > 0, scale, 1.0)
            moved[i] = moved[i] + t * lax.stop_gradient(scale) * d
        stated = _stated(use, rule, numbers, DOUBLE, moved, cts)
        return [jnp.real(_wide(x)) * w for x, w in zip(stated, weights, strict=True)]

    def along(t: Any) -> Any:
        return sum(jnp.sum(x) for x in terms(t))

    def magnitude(t: Any) -> Any:
        return sum(jnp.sum(abs(x)) for x in terms(t))

    return along, magnitude


def _mismatched(use: Use, rule: Staged) -> tuple[tuple[int, str, str], ...]:
    """The operands whose cotangent has another shape or dtype than they have."""
    types, found = iter(rule.types), []
    stated = [next(types) if m else None for m in rule.made]
    for number in judged_operands(use):
        ct, x = stated[number], avals.struct(use.eqn.invars[number])
        if ct is not None and (ct.shape, ct.dtype) != (x.shape, x.dtype):
            found.append((number, ct.str_short(), x.str_short()))
    return tuple(found)
