"""Check a rule against JAX's on cases: shapes, parameters and values where it may go wrong.

For a case y = f(x, ...) of a primitive, and a random cotangent ct of y, the first order compares
y and ct . df/dx of fbp with those of `jax.vjp`, in units in the last place (ULPs). The composed
check compares the derivatives of that pullback: vmap, second order, forward over reverse. One
program differentiates all cases both ways, so that a check compiles once.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive

import fbp
from fbp.autodiff import RULES, Rules
from fbp.verify import oracle

Make = Callable[[np.random.Generator, Any], np.ndarray]

FLOATS = ("float32", "float64", "bfloat16")
COMPLEX = ("complex64", "complex128")
NUMBERS = (*FLOATS, *COMPLEX)

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Compiler options for programs that run once: to optimize them takes longer than to run them."""


@dataclass(frozen=True)
class Case:
    """A use of a primitive: a function, and arguments to differentiate it at.

    Args:
      primitive: the primitive whose rule the case tests.
      fun: the function of the arguments, in whose program the primitive occurs.
      args: one entry per argument: a shape, for normal random numbers of the dtype that is
        tested, or a function of a generator and this dtype that returns an array (`uniform`,
        `ties`, `values`, `fixed`, ...).
      dtypes: the dtypes to test in.
      tolerance: the largest difference, in ULPs of the gradient's largest entry.
      per_element: compare in ULPs of each element instead.
      composed: whether `check_composed` takes the case.
      name: what a failure calls the case, beside its primitive.

    >>> from jax import lax
    >>> case = Case(lax.rev_p, lambda x: lax.rev(x, (0,)), ((3, 2),))
    >>> print(*(x.shape for x in case.arguments("float32")))
    (3, 2)
    """

    primitive: Primitive
    fun: Callable
    args: tuple[tuple[int, ...] | Make, ...]
    dtypes: tuple[str, ...] = FLOATS
    tolerance: float = 4
    per_element: bool = False
    composed: bool = True
    name: str = field(default="", kw_only=True)

    def arguments(self, dtype: str, seed: int = 0) -> list[jax.Array]:
        """Return the arguments as arrays of a dtype, drawn from a seed."""
        rng = np.random.default_rng(seed)
        makes = [a if callable(a) else normal(*a) for a in self.args]
        return [jnp.asarray(make(rng, jnp.dtype(dtype))) for make in makes]


def normal(*shape: int) -> Make:
    """Draw normal random numbers of a shape, for complex dtypes in both parts.

    Args:
      *shape: the shape to draw.

    Returns:
      A function of a generator and a dtype that returns an array, for `Case.args`.

    >>> import numpy as np
    >>> normal(2, 3)(np.random.default_rng(0), np.dtype("float32")).shape
    (2, 3)
    """
    return lambda rng, dtype: _random(rng.standard_normal, shape, dtype)


def uniform(low: float, high: float, *shape: int) -> Make:
    """Draw uniform random numbers in [low, high), for complex dtypes in both parts.

    Args:
      low: the lower bound.
      high: the upper bound.
      *shape: the shape to draw.

    Returns:
      A function of a generator and a dtype that returns an array, for `Case.args`.

    >>> import numpy as np
    >>> bool(uniform(1, 2, 5)(np.random.default_rng(0), np.dtype("float32")).min() >= 1)
    True
    """
    return lambda rng, dtype: _random(lambda s: rng.uniform(low, high, s), shape, dtype)


def ties(*shape: int) -> Make:
    """Draw small integers as floating numbers: many are equal, some are zero.

    Args:
      *shape: the shape to draw.

    Returns:
      A function of a generator and a dtype that returns an array, for `Case.args`.

    >>> import numpy as np
    >>> print(np.unique(ties(50)(np.random.default_rng(0), np.dtype("float32"))))
    [-2. -1.  0.  1.  2.]
    """
    return lambda rng, dtype: _random(lambda s: rng.integers(-2, 3, s), shape, dtype)


def values(*entries: Any) -> Make:
    """Return these numbers as a vector of the dtype that is tested.

    Args:
      *entries: the numbers.

    Returns:
      A function of a generator and a dtype that returns an array, for `Case.args`.

    >>> import numpy as np
    >>> print(values(0, np.inf)(np.random.default_rng(0), np.dtype("float32")))
    [ 0. inf]
    """
    return lambda _rng, dtype: np.array(entries).astype(dtype)


def number(value: Any) -> Make:
    """Return this number as a scalar array of the dtype that is tested.

    Args:
      value: the number.

    Returns:
      A function of a generator and a dtype that returns an array of shape (), for `Case.args`.

    >>> import numpy as np
    >>> print(number(2)(np.random.default_rng(0), np.dtype("float32")))
    2.0
    """
    return lambda _rng, dtype: np.asarray(value).astype(dtype)


def fixed(array: Any) -> Make:
    """Return this array whatever the dtype that is tested: an index, a predicate.

    Args:
      array: the array.

    Returns:
      A function of a generator and a dtype that returns the array, for `Case.args`.

    >>> import numpy as np
    >>> print(fixed([True, False])(np.random.default_rng(0), np.dtype("float32")))
    [ True False]
    """
    return lambda _rng, _dtype: np.asarray(array)


def real(make: Make) -> Make:
    """Draw from `make` in the real dtype of the precision that is tested.

    Args:
      make: a function of a generator and a dtype, such as `normal(3)`.

    Returns:
      The same function of a generator and the real dtype, for `Case.args`.

    >>> import numpy as np
    >>> real(normal(3))(np.random.default_rng(0), np.dtype("complex64")).dtype
    dtype('float32')
    """
    return lambda rng, dtype: make(rng, jnp.finfo(dtype).dtype)


def _random(draw: Callable, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    numbers = draw(shape)
    if jnp.issubdtype(dtype, np.complexfloating):
        numbers = numbers + 1j * draw(shape)
    return np.asarray(numbers).astype(dtype)


def precision(dtype: str) -> AbstractContextManager[Any]:
    """Return a context in which arrays of this dtype can be made: 64 bits are off by default.

    Args:
      dtype: the name of a dtype, such as "float64".

    Returns:
      A context manager.

    >>> import jax.numpy as jnp
    >>> with precision("float64"):
    ...     print(jnp.zeros(2, "float64").dtype)
    float64
    """
    return jax.enable_x64(True) if dtype in ("float64", "complex128") else nullcontext()


def check_first_order(cases: Sequence[Case], dtype: str, *, rules: Rules = RULES) -> None:
    """Check that the value and every cotangent are JAX's, for a random cotangent of the output.

    Args:
      cases: the cases to differentiate, each at its own arguments.
      dtype: the dtype to draw the arguments in, such as "float32".
      rules: the table of rules that fbp differentiates by.

    Returns:
      None, if all cases agree.

    Raises:
      AssertionError: names the case, the distance in ULPs, and both arrays.
      fbp.MissingRule: a primitive of a case has no rule.

    >>> from jax import lax
    >>> check_first_order([Case(lax.sin_p, lax.sin, ((3,), ))], "float32")
    """
    _check(cases, dtype, _first_order, rules)


def check_composed(cases: Sequence[Case], dtype: str, *, rules: Rules = RULES) -> None:
    """Check the derivatives of the pullbacks: vmap(fbp), fbp(fbp), fbp(jax), jax(fbp), jvp(fbp).

    Args:
      cases: the cases to differentiate; those with `composed=False` are left out.
      dtype: the dtype to draw the arguments in, such as "float32".
      rules: the table of rules that fbp differentiates by.

    Returns:
      None, if all cases agree within eight times their tolerance.

    Raises:
      AssertionError: names the case, the distance in ULPs, and both arrays.
      fbp.MissingRule: a primitive of a case has no rule.

    >>> from jax import lax
    >>> check_composed([Case(lax.sin_p, lax.sin, ((3,), ))], "float32")
    """
    _check([case for case in cases if case.composed], dtype, _composed, rules, slack=8)


def check_eagerly(cases: Sequence[Case], dtype: str, *, rules: Rules = RULES) -> None:
    """Check as `check_first_order` does, but run each equation alone, compiled by itself.

    Args:
      cases: the cases to differentiate, each at its own arguments.
      dtype: the dtype to draw the arguments in, such as "float32".
      rules: the table of rules that fbp differentiates by.

    Returns:
      None, if all cases agree.

    Raises:
      AssertionError: names the case, the distance in ULPs, and both arrays.
      fbp.MissingRule: a primitive of a case has no rule.

    >>> from jax import lax
    >>> check_eagerly([Case(lax.sin_p, lax.sin, ((3,), ))], "float32")
    """
    _check(cases, dtype, _first_order, rules, jit=False)


def first_order_distances(
    cases: Sequence[Case], dtype: str, *, rules: Rules = RULES
) -> list[float]:
    """Return the largest difference from JAX's of each case, as a multiple of its tolerance.

    Args:
      cases: the cases to differentiate, each at its own arguments.
      dtype: the dtype to draw the arguments in, such as "float32".
      rules: the table of rules that fbp differentiates by.

    Returns:
      One number per case; one or less passes `check_first_order`.

    Raises:
      fbp.MissingRule: a primitive of a case has no rule.

    >>> from jax import lax
    >>> first_order_distances([Case(lax.neg_p, lax.neg, ((3,), ))], "float32")
    [0.0]
    """
    with precision(dtype):
        inputs = [case.arguments(dtype) for case in cases]

        def run(inputs: list) -> list:
            return [
                _first_order(_fbp(rules), case, args, [])
                for case, args in zip(cases, inputs, strict=True)
            ]

        compared = jax.jit(run)(inputs)
        return [_multiple(case, results) for case, results in zip(cases, compared, strict=True)]


def ulps(got: Any, want: Any) -> float:
    """Return the largest difference of two arrays, in ULPs of the largest entry of `want`.

    An error is measured against the largest entry, since that is what cancellation in a sum of
    terms of this size leaves. Arrays without a derivative must be equal.

    Args:
      got: the array to judge.
      want: the array that it should be, of the same shape.

    Returns:
      The difference in ULPs of the dtype of `want`; infinite for unequal integers.

    Raises:
      AssertionError: entries that are not finite differ.

    >>> import jax.numpy as jnp
    >>> print(ulps(jnp.float32([1, 0]), jnp.float32([1, 2**-23])))
    1.0
    """
    if not want.size or want.dtype == jax.dtypes.float0:
        return 0.0
    if not jnp.issubdtype(want.dtype, np.inexact):
        return 0.0 if np.array_equal(got, want) else np.inf
    eps = float(jnp.finfo(want.dtype).eps)
    exact = np.complex128 if jnp.iscomplexobj(want) else np.float64
    a, b = np.asarray(got).astype(exact), np.asarray(want).astype(exact)
    finite = np.isfinite(b)
    np.testing.assert_array_equal(a[~finite], b[~finite])
    a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    scale = max(np.max(np.abs(b), initial=0.0), float(jnp.finfo(want.dtype).tiny))
    return float(np.max(np.abs(a - b), initial=0.0) / (eps * scale))


def _check(
    cases: Sequence[Case],
    dtype: str,
    results: Callable,
    rules: Rules,
    slack: float = 1,
    jit: bool = True,
) -> None:
    with precision(dtype):
        inputs = [[case.arguments(dtype, seed) for seed in (0, 1)] for case in cases]

        def run(inputs: list) -> list:
            mine = _fbp(rules)
            return [results(mine, case, *args) for case, args in zip(cases, inputs, strict=True)]

        run = jax.jit(run, compiler_options=QUICK) if jit else run
        for case, pairs in zip(cases, run(inputs), strict=True):
            for what, (got, want) in pairs.items():
                _compare(case, f"{case.primitive} {case.name} {what}", got, want, slack)


def _fbp(rules: Rules) -> Any:
    """Return fbp with a table of rules, as a library with `vjp`."""
    return SimpleNamespace(vjp=functools.partial(fbp.vjp, rules=rules))


def _compare(case: Case, where: str, got: Any, want: Any, slack: float) -> None:
    chex.assert_trees_all_equal_structs(got, want)
    distance = _ulps_per_element if case.per_element and slack == 1 else ulps
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), where
        if not jnp.issubdtype(b.dtype, np.inexact):
            np.testing.assert_array_equal(a, b, err_msg=where)
            continue
        assert distance(a, b) <= case.tolerance * slack, f"{where}: {distance(a, b)}\n{a}\n{b}"


def _multiple(case: Case, results: dict[str, tuple[Any, Any]]) -> float:
    distance = _ulps_per_element if case.per_element else ulps
    pairs = (zip(*map(jax.tree.leaves, pair), strict=True) for pair in results.values())
    return max((distance(a, b) for pair in pairs for a, b in pair), default=0.0) / case.tolerance


def _ulps_per_element(got: Any, want: Any) -> float:
    return max(map(ulps, np.ravel(got), np.ravel(want)), default=0.0)


def _first_order(mine: Any, case: Case, args: list, _: list) -> dict[str, tuple[Any, Any]]:
    fun, floats = _of_floats(case.fun, args)
    cts = _cotangents(fun, *floats)
    both = (mine, oracle)
    ours, jaxs = (_value_and_cotangents(library, fun, cts)(*floats) for library in both)
    return {"value": (ours[0], jaxs[0]), "cotangents": (ours[1], jaxs[1])}


def _composed(mine: Any, case: Case, args: list, others: list) -> dict[str, tuple[Any, Any]]:
    fun, floats = _of_floats(case.fun, args)
    cts = _cotangents(fun, *floats)
    ours, jaxs = (_cotangents_of(library, fun, cts) for library in (mine, oracle))
    tangents = tuple(_cotangents(lambda *floats: floats, *floats))
    outer = _cotangents(jaxs, *floats)

    def mapped(library: Any) -> Any:
        def one(*args):
            fun, floats = _of_floats(case.fun, args)
            return _cotangents_of(library, fun, cts)(*floats)

        return jax.vmap(one)(*(jnp.stack(pair) for pair in zip(args, others, strict=True)))

    want = _cotangents_of(oracle, jaxs, outer)(*floats)
    return {
        "vmap(fbp)": (mapped(mine), mapped(oracle)),
        "fbp(fbp)": (_cotangents_of(mine, ours, outer)(*floats), want),
        "fbp(jax)": (_cotangents_of(mine, jaxs, outer)(*floats), want),
        "jax(fbp)": (_cotangents_of(oracle, ours, outer)(*floats), want),
        "jvp(fbp)": (jax.jvp(ours, floats, tangents)[1], jax.jvp(jaxs, floats, tangents)[1]),
    }


def _of_floats(fun: Callable, args: Sequence[Any]) -> tuple[Callable, tuple]:
    """Return the function of its differentiable arguments, and these."""
    inexact = [jnp.issubdtype(a.dtype, np.inexact) for a in args]

    def of_floats(*floats):
        remaining = iter(floats)
        return fun(*(next(remaining) if f else a for f, a in zip(inexact, args, strict=True)))

    return of_floats, tuple(a for f, a in zip(inexact, args, strict=True) if f)


def _value_and_cotangents(library: Any, fun: Callable, cts: Any) -> Callable:
    def run(*floats):
        out, pullback = library.vjp(fun, *floats)
        return out, pullback(cts)

    return run


def _cotangents_of(library: Any, fun: Callable, cts: Any) -> Callable:
    return lambda *floats: _value_and_cotangents(library, fun, cts)(*floats)[1]


def _cotangents(fun: Callable, *args: Any) -> Any:
    """Draw random cotangents for the outputs of a function, float0 for integers."""
    rng = np.random.default_rng(7)

    def make(out: Any) -> Any:
        if jnp.issubdtype(out.dtype, np.inexact):
            return jnp.asarray(normal(*out.shape)(rng, out.dtype))
        return np.zeros(out.shape, jax.dtypes.float0)

    return jax.tree.map(make, jax.eval_shape(fun, *args))
