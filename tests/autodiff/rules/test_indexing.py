"""Reading and writing parts of arrays: as JAX, and where JAX stops, as a program written out."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import indexing
from fbp.testing import FLOATS, NUMBERS, Case, fixed, ties
from tests.support.agreement import assert_same
from tests.support.table import rule_tests

BLOCKS = [
    Case(p.slice_p, lambda x: lax.slice(x, (1, 0), (3, 4)), ((3, 4),), NUMBERS),
    Case(
        p.slice_p,
        lambda x: lax.slice(x, (0, 1), (3, 8), (2, 3)),
        ((3, 9),),
        NUMBERS,
        name="strided",
    ),
    Case(p.slice_p, lambda x: lax.slice(x, (2,), (2,), (2,)), ((4,),), name="to empty"),
    Case(p.slice_p, lambda x: lax.slice(x, (0, 1), (0, 3)), ((0, 4),), name="empty"),
    Case(p.slice_p, lambda x: x[-2::-1, None, ..., ::2], ((3, 4),), name="backward"),
    *(
        Case(
            p.dynamic_slice_p,
            lambda x, i, j: lax.dynamic_slice(x, (i, j), (2, 3)),
            ((4, 5), fixed(np.int32(i)), fixed(np.int32(1))),
            NUMBERS if i == 1 else FLOATS,
            name=f"at {i}",
        )
        for i in (0, 1, 3, 9, -1, -9)
    ),
    Case(
        p.dynamic_slice_p,
        lambda x, i: lax.dynamic_slice(x, (i, i), (0, 2)),
        ((0, 2), fixed(np.int32(1))),
        name="empty",
    ),
    *(
        Case(
            p.dynamic_update_slice_p,
            lambda x, block, i, j: lax.dynamic_update_slice(x, block, (i, j)),
            ((4, 5), (2, 3), fixed(np.int32(i)), fixed(np.int32(1))),
            NUMBERS if i == 1 else FLOATS,
            name=f"at {i}",
        )
        for i in (0, 1, 3, -1)
    ),
    Case(
        p.dynamic_update_slice_p,
        lambda x, block: lax.dynamic_update_slice(x, block, (1, 2)),
        ((3, 4), (0, 2)),
        name="empty",
    ),
]

MODES = ("fill", "clip", "promise_in_bounds")
OUTSIDE = np.array([[0, 7], [-1, -9]], np.int32)
INSIDE = np.array([[0, 2], [1, 0]], np.int32)


def rows(mode: str, **how: Any) -> Callable:
    return lambda x, i: x.at[i].get(mode=mode, **how)


GATHERS = [
    *(
        Case(
            p.gather_p,
            rows(mode),
            ((3, 4), fixed(INSIDE if mode == "promise_in_bounds" else OUTSIDE)),
            NUMBERS if mode == "fill" else FLOATS,
            name=mode,
        )
        for mode in MODES
    ),
    Case(p.gather_p, rows("fill", fill_value=2.0), ((3,), fixed(OUTSIDE)), name="filled with 2"),
    Case(
        p.gather_p,
        rows("clip", unique_indices=True, indices_are_sorted=True),
        ((3, 4), fixed(np.array([0, 2]))),
        name="unique and sorted",
    ),
    Case(p.gather_p, lambda x: x[np.array([0, 0, -1])], ((3, 2),), name="constant indices"),
    Case(p.gather_p, lambda x: x[np.array([True, False, True])], ((3, 2),), name="mask"),
    Case(p.gather_p, lambda x, i: x[i, i], ((3, 3, 2), fixed(INSIDE)), name="two indices"),
    Case(p.gather_p, lambda x, i: x[i[0], 1:3, i[1]], ((3, 4, 3), fixed(INSIDE)), name="mixed"),
    Case(
        p.gather_p,
        lambda x, i: lax.gather(x, i, lax.GatherDimensionNumbers((1,), (0,), (0,)), (1, 3)),
        ((2, 3), fixed(np.zeros((0, 1), np.int32))),
        name="no index",
    ),
    Case(p.gather_p, lambda x, i: jnp.take(x, i, axis=1), ((2, 3), fixed(OUTSIDE)), name="take"),
    *(
        Case(
            p.gather_p,
            lambda x, i, mode=mode: jnp.take_along_axis(x, i, 1, mode=mode),
            ((2, 3), fixed(OUTSIDE)),
            name=f"take along axis, {mode}",
        )
        for mode in ("fill", "clip")
    ),
    Case(
        p.gather_p,
        jax.vmap(lambda x, i: x[i]),
        ((2, 3, 4), fixed(INSIDE)),
        name="batched",
    ),
    Case(
        p.gather_p,
        lambda x, i: lax.gather(
            x, i, lax.GatherDimensionNumbers((0, 2), (), (1,)), (2, 2), mode="clip"
        ),
        ((2, 5), fixed(np.array([[0], [1], [1], [9]]))),
        name="overlapping windows",
    ),
]

PLACES = {
    "unique": np.array([2, 0], np.int32),
    "repeated": np.array([1, 0, 1, 1], np.int32),
    "outside": np.array([1, 7, -1, -9, 1], np.int32),
}
WINDOWS = lax.ScatterDimensionNumbers((0, 2), (), (1,))


def scatters(
    primitive: Primitive,
    scatter: Callable,
    method: str,
    numbers: tuple = NUMBERS,
    modes: tuple = ("drop", "clip"),
    make: Callable = lambda *shape: shape,
    **how: Any,
) -> Iterator[Case]:
    """A scatter to rows: once each, repeatedly, and outside; to overlapping windows; in batches."""
    unique = how.get("unique_indices", False)
    for name, places in PLACES.items():
        if unique and name != "unique":
            continue
        for mode in modes:
            yield Case(
                primitive,
                lambda x, i, u, mode=mode: getattr(x.at[i], method)(u, mode=mode, **how),
                (make(3, 4), fixed(places), make(len(places), 4)),
                numbers if (name, mode) == ("repeated", "drop") else numbers[:1],
                name=f"{name}, {mode}",
                composed=name == "repeated" and mode == "drop",
            )
    starts = np.array([[0], [3]] if unique else [[0], [1], [1], [9]], np.int32)
    yield Case(
        primitive,
        lambda x, i, u: scatter(x, i, u, WINDOWS, **how),
        (make(2, 5), fixed(starts), make(2, len(starts), 2)),
        numbers,
        name="windows",
    )
    yield Case(
        primitive,
        jax.vmap(lambda x, i, u: getattr(x.at[i], method)(u, **how)),
        (make(2, 3), fixed(INSIDE), make(2, 2)),
        numbers[:1],
        composed=False,
        name="batched",
    )
    for name, rows, places in (("empty rows", 0, starts), ("no places", 2, starts[:0])):
        yield Case(
            primitive,
            lambda x, i, u: scatter(x, i, u, WINDOWS, **how),
            (make(rows, 5), fixed(places), make(rows, len(places), 2)),
            numbers[:1],
            composed=False,
            name=name,
        )


SCATTERS = [
    *scatters(p.scatter_p, lax.scatter, "set"),
    *scatters(p.scatter_p, lax.scatter, "set", FLOATS[:1], unique_indices=True),
    *scatters(p.scatter_add_p, lax.scatter_add, "add"),
    *scatters(lax.scatter_sub_p, lax.scatter_sub, "subtract"),
    *scatters(p.scatter_mul_p, lax.scatter_mul, "multiply", unique_indices=True),
    *scatters(p.scatter_min_p, lax.scatter_min, "min", FLOATS, ("drop",), ties),
    *scatters(p.scatter_max_p, lax.scatter_max, "max", FLOATS, ("drop",), ties),
    Case(
        p.scatter_p,
        lambda x, u: x.at[1].set(u).at[:, -1].set(2.0).at[np.array([True, False, True])].set(u),
        ((3, 4), (4,)),
        name="static",
    ),
    Case(p.scatter_mul_p, lambda x: x.at[np.array([0, 0])].multiply(3.0), ((3,),), name="constant"),
]

CASES = (*BLOCKS, *GATHERS, *SCATTERS)


TestRules = rule_tests(indexing.RULES, CASES)


# What JAX does not differentiate


def one_after_another(x: Any, where: np.ndarray, updates: Any, method: str) -> Any:
    """A scatter written out: a sequence of updates of single rows."""
    for i, update in zip(where, updates, strict=True):
        i = np.clip(i + len(x) * (i < 0), 0, len(x) - 1)
        x = getattr(x.at[i], method)(update, unique_indices=True)
    return x


@pytest.mark.parametrize("places", ["repeated", "outside"])
def test_repeated_factors_have_the_product_of_the_others(places, x64):
    where = PLACES[places]
    x, ct, updates = np.split(np.random.default_rng(0).normal(size=(6 + len(where), 2)), (3, 6))

    def scattered(x, u):
        return x.at[where].multiply(u, mode="clip")

    def written_out(x, u):
        return one_after_another(x, where, u, "multiply")

    def both_orders(vjp, fun):
        def pullback(x, u):
            return vjp(fun, x, u)[1](ct)

        return jax.jit(lambda x, u: (pullback(x, u), vjp(lambda *a: pullback(*a)[1], x, u)[1](u)))

    mine, jaxs = both_orders(fbp.vjp, scattered), both_orders(jax.vjp, written_out)
    for zeros in ([], [0], [0, 3]):
        updates[zeros] = 0
        assert_same(mine(x, updates), jaxs(x, updates), 16)


def test_repeated_factors_of_windows_and_batches_have_the_product_of_the_others():
    x, updates = jnp.arange(1.0, 6), jnp.array([[2.0, 3.0], [5.0, 7.0]])

    def windows(x, u):
        return lax.scatter_mul(
            x, np.array([[0], [1]]), u, lax.ScatterDimensionNumbers((1,), (), (0,))
        ).sum()

    def batched(x, u):
        return jax.vmap(lambda u: x.at[np.array([1, 1])].multiply(u))(u).sum()

    assert_same(fbp.grad(windows, 1)(x, updates), jnp.array([[1.0, 2 * 5], [2 * 3, 3.0]]))
    assert_same(fbp.grad(batched, 1)(x, updates), jnp.array([[2 * 3.0, 2 * 2], [2 * 7, 2 * 5]]))


def test_the_last_of_equal_updates_gets_the_cotangent_and_a_nan_gets_its_own():
    def fun(u):
        return jnp.zeros(2).at[np.array([0, 0, 1, 1])].set(u)

    _, pullback = fbp.vjp(fun, jnp.array([3.0, 3.0, 1.0, jnp.nan]))
    assert_same(pullback(jnp.array([5.0, 7.0]))[0], jnp.array([0.0, 5.0, 0.0, 7.0]))


def test_overwriting_is_transposed_where_jax_needs_unique_indices():
    @jax.custom_jvp
    def first_is_zero(x):
        return x.at[np.array([0, 0])].set(0.0)

    @first_is_zero.defjvp
    def _(primals, tangents):
        (x,), (dx,) = primals, tangents
        return first_is_zero(x), dx.at[np.array([0, 0])].set(jnp.stack([dx[1], dx[2]]))

    got = fbp.grad(lambda x: (first_is_zero(x) * jnp.arange(1.0, 4)).sum())(jnp.ones(3))
    assert_same(got, jnp.array([0.0, 2.0, 4.0]))


@pytest.mark.parametrize("method", ["min", "max"])
def test_clipped_extrema_are_those_of_clipped_indices(method):
    where = np.array([1, 7, 1, 9], np.int32)
    x, u, ct = (jnp.asarray(a) for a in np.random.default_rng(0).integers(-2, 3, (3, 4, 1)) * 1.0)

    def fun(x, u, where, mode=None):
        return getattr(x.at[where], method)(u, mode=mode)

    got = fbp.vjp(lambda x, u: fun(x, u, where, "clip"), x, u)[1](ct)
    want = jax.vjp(lambda x, u: fun(x, u, where.clip(0, 3)), x, u)[1](ct)
    assert_same(got, want)


def test_applying_a_function_at_indices_says_what_to_write_instead():
    with pytest.raises(NotImplementedError, match=r"x\.at\[i\]\.set\(f\(x\[i\]\)\)"):
        fbp.grad(lambda x: x.at[np.array([0, 1])].apply(jnp.sin).sum())(jnp.ones(3))


def test_a_cotangent_of_another_dtype_passes_through_a_gather():
    @jax.custom_vjp
    def rounded(x):
        return x

    rounded.defvjp(lambda x: (x, ()), lambda _, ct: (ct.astype("bfloat16"),))
    x = jnp.arange(8, dtype="float8_e4m3fn")

    def cotangent(library):
        return library.vjp(lambda x: rounded(x[jnp.array([3, 0, 3])]), x)[1](x[1:4])[0]

    assert_same(cotangent(fbp), cotangent(jax))
