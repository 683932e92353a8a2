"""Two functions side by side: the first equation whose value, or whose cotangent, differs.

Both are run with their backward passes, and every equation leaves a fingerprint: the size of its
result, and a projection of it. Equations of the two programs are paired by what they are, in the
order in which they stand. How far two right results may be apart is measured: the first function
is run once more with its arguments moved by one spacing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import RULES, avals, value_and_grad
from fbp.autodiff import graph as g
from fbp.autodiff.graph import Graph
from fbp.autodiff.rule import Rules
from fbp.errors import InputError
from fbp.verify.flow import flow, is_backward
from fbp.verify.observe import CALLS, Key, Site, Watch, observe, sites
from fbp.verify.precision import DOUBLE, in_precision
from fbp.verify.problem import CheckedFunction, problem_of
from fbp.verify.reference import MARGIN

ITERATIONS = 256
"""How many iterations of a loop are told apart; the last stands for all after it."""


@dataclass(frozen=True)
class Difference:
    """Where two functions part.

    Attributes:
      what: 'value', 'cotangent', or 'result' where no pair of equations shows it.
      equation: the equation of the first function, and of the second.
      source: the line of each.
      iteration: that of the outermost loop around; None outside of loops.
      first: the size of the first function's result, or where that is equal a projection of it.
      second: the same of the second's.
      bar: how far they may be apart.

    >>> print(Difference("value", ("sin", "cos"), ("a.py:1", "b.py:1"), None, 0.0, 1.0, 1e-6))
    the first value that differs: 0 and 1, 1e-06 allowed
      first   sin at a.py:1
      second  cos at b.py:1
    """

    what: str
    equation: tuple[str, str]
    source: tuple[str, str]
    iteration: int | None
    first: float
    second: float
    bar: float

    def __str__(self) -> str:
        when = "" if self.iteration is None else f" in iteration {self.iteration}"
        return (
            f"the first {self.what} that differs{when}: {self.first:.9g} and {self.second:.9g}, "
            f"{self.bar:.1g} allowed\n  first   {self.equation[0]} at {self.source[0]}\n"
            f"  second  {self.equation[1]} at {self.source[1]}"
        )


@dataclass(frozen=True, eq=False)
class _Program:
    """A function's value and gradient as a program, and how it is run."""

    graph: Graph
    args: list[Any]
    x64: bool


def first_difference(
    f: Callable,
    other: Callable | None,
    *args: Any,
    argnums: int | Sequence[int] = 0,
    rules: tuple[Rules, Rules] = (RULES, RULES),
    double: bool = False,
) -> Difference | None:
    """Return the first equation whose value or cotangent differs in two functions; line and
    iteration.

    Args:
      f: a function of arrays; outputs other than one scalar are weighed and summed.
      other: another one of the same arguments, as after a rewrite, or with other options; None for
        the same function, with other rules or in another precision.
      args: where they are run.
      argnums: which arguments are differentiated.
      rules: a table of rules for each.
      double: whether the second runs in float64.

    Returns:
      The first difference; None where nothing differs beyond its bar. Equations that stand in one
      of the two programs alone are passed over; the next that stand in both tell.

    Raises:
      InputError: for arguments without floats, and for one function beside itself.
      Exception: what `fbp.grad` raises.

    >>> import jax.numpy as jnp
    >>> first_difference(lambda x: jnp.sum(jnp.sin(x)), lambda x: jnp.sin(x).sum(), jnp.ones(3))
    >>> found = first_difference(
    ...     lambda x: jnp.sum(jnp.sin(2 * x)), lambda x: jnp.sum(jnp.sin(2.1 * x)), jnp.ones(3)
    ... )
    >>> found.what, found.equation[0]
    ('value', 'float32[3] = mul')
    """
    if other is None and rules[0] is rules[1] and not double:
        raise InputError("give a second function, two tables of rules, or double=True.")
    first = problem_of(f, args, argnums)
    second = problem_of(other or f, args, argnums)
    a, b = _program(first, rules[0], False), _program(second, rules[1], double)
    return _compare(a, b)


def _program(problem: CheckedFunction, rules: Rules, double: bool) -> _Program:
    args = jax.tree.leaves(problem.point)
    if not double:
        graph, _ = g.stage(value_and_grad(problem.loss, rules=rules), *problem.point)
        return _Program(graph, args, bool(jax.config.read("jax_enable_x64")))
    loss = in_precision(DOUBLE, problem.loss, *problem.point)
    with jax.enable_x64(True):
        wide = jax.tree.map(DOUBLE.cast, problem.point)
        graph, _ = g.stage(value_and_grad(loss, rules=rules), *wide)
        return _Program(graph, jax.tree.leaves(wide), True)


def _compare(a: _Program, b: _Program) -> Difference | None:
    one, moved, two = _fingerprints(a), _fingerprints(a, moved=True), _fingerprints(b)
    sites_a, sites_b = _recorded(a.graph, one), _recorded(b.graph, two)
    eps = _eps(a)
    pairs = _pairs(sites_a, sites_b)
    differing = [
        (x, y) for x, y in pairs if _excess(one[x.key], moved[x.key], two[y.key], eps) is not None
    ]
    if not differing:
        return None
    x, y = min(differing, key=lambda p: _time(p, one, moved, two, eps))
    when, first, second, bar = _first_excess(one[x.key], moved[x.key], two[y.key], eps)
    equations = [flow(a.graph).equations[x.key], flow(b.graph).equations[y.key]]
    return Difference(
        what="cotangent" if equations[0].backward or is_backward(x.eqn) else "value",
        equation=(_written(x), _written(y)),
        source=(equations[0].source, equations[1].source),
        iteration=when if x.loops else None,
        first=first,
        second=second,
        bar=bar,
    )


def _time(pair: tuple[Site, Site], one: Any, moved: Any, two: Any, eps: float) -> tuple:
    """Return what orders differences as they happened: by the loop, the iteration in it, the
    equation; an equation that holds a program differs after what is within."""
    x, y = pair
    when, *_ = _first_excess(one[x.key], moved[x.key], two[y.key], eps)
    if not x.loops:
        return (*x.key, math.inf)
    return (x.key[0], when, *x.key[1:], math.inf)


Prints = dict[Key, np.ndarray]


def _fingerprints(program: _Program, moved: bool = False) -> Prints:
    """Return, for each equation, rows by iteration: how often it ran, its size, a projection."""

    def measure(site: Site, _: Any, outs: Sequence[Any], iteration: tuple[Any, ...]) -> Any:
        if site.eqn.primitive in CALLS or not outs or not avals.differentiable(jax.typeof(outs[0])):
            return None
        x = jnp.asarray(outs[0])
        wide = jnp.float64 if program.x64 else jnp.float32
        magnitude = jnp.sum(abs(x), dtype=wide)
        weights = np.random.default_rng(0).uniform(-1, 1, x.shape)
        projection = jnp.sum(jnp.real(x).astype(wide) * jnp.asarray(weights, wide))
        row = jnp.stack([jnp.ones((), wide), magnitude, projection])
        number = jnp.minimum(iteration[0], ITERATIONS - 1) if iteration else 0
        rows = ITERATIONS if iteration else 1
        return jnp.zeros((rows, 3), wide).at[number].set(row)

    def both(before: Any, now: Any) -> Any:
        return before + now

    args = [_moved(x) for x in program.args] if moved else program.args
    standard, allow = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with jax.enable_x64(program.x64), standard, allow:
        run = jax.jit(lambda args: observe(program.graph, args, Watch(measure, both))[1])
        records = jax.device_get(run(args))
    return {k: np.asarray(seen.record, np.float64) for k, seen in records.items() if seen.ran}


def _moved(x: Any) -> Any:
    """Return an array moved by about one spacing."""
    if not avals.differentiable(jax.typeof(x)):
        return x
    eps = float(jnp.finfo(x.dtype).eps)
    signs = np.random.default_rng(1).choice([-1, 1], x.shape)
    return (x * jnp.asarray(1 + eps * signs, x.dtype)).astype(x.dtype)


def _recorded(graph: Graph, prints: Prints) -> list[Site]:
    return [site for site in sites(graph) if site.key in prints]


def _eps(program: _Program) -> float:
    types = [jax.typeof(x).dtype for x in program.args if avals.differentiable(jax.typeof(x))]
    return max(float(jnp.finfo(d).eps) for d in types)


def _pairs(a: list[Site], b: list[Site]) -> list[tuple[Site, Site]]:
    """Equations of two programs that are the same operation of the same shape, in order."""
    matcher = SequenceMatcher(None, [*map(_token, a)], [*map(_token, b)], autojunk=False)
    return [
        (a[block.a + i], b[block.b + i])
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    ]


def _token(site: Site) -> tuple:
    name, backward = site.eqn.primitive.name, is_backward(site.eqn)
    return name, backward, site.loops, tuple(avals.struct(v).shape for v in site.eqn.outvars)


def _excess(one: Any, moved: Any, two: Any, eps: float) -> Any:
    n = min(len(one), len(two))
    apart = abs(one[:n, 1:] - two[:n, 1:])
    apart = np.where(np.isnan(apart), np.inf, apart)
    same = (one[:n, 1:] == two[:n, 1:]) | (np.isnan(one[:n, 1:]) & np.isnan(two[:n, 1:]))
    noise = np.nan_to_num(abs(one[:n, 1:] - moved[:n, 1:]))
    bars = MARGIN * np.maximum(noise, eps * np.nan_to_num(one[:n, 1:2]))
    beyond = (apart > bars) & ~same
    if not beyond.any():
        return None
    row, column = np.argwhere(beyond)[0]
    return int(row), int(column), float(bars[row, column])


def _first_excess(one: Any, moved: Any, two: Any, eps: float) -> tuple[int, float, float, float]:
    row, column, bar = _excess(one, moved, two, eps)
    return row, float(one[row, 1 + column]), float(two[row, 1 + column]), bar


def _written(site: Site) -> str:
    outs = ", ".join(v.aval.str_short() for v in site.eqn.outvars)
    return f"{outs} = {site.eqn.primitive}"
