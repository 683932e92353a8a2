"""Products of arrays, of any dimensions in any order."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import products
from fbp.testing import FLOATS, NUMBERS, Case
from tests.support.agreement import ulps
from tests.support.jaxprs import primitives
from tests.support.table import rule_tests


def product(lhs: str, rhs: str, **how) -> Callable:
    """The product over the letters that lhs and rhs share; capitals are batch dimensions."""
    batch = [c for c in lhs if c in rhs and c.isupper()]
    summed = [c for c in lhs if c in rhs and c.islower()]
    numbers = tuple(
        tuple(tuple(side.index(c) for c in group) for side in (lhs, rhs))
        for group in (summed, batch)
    )
    return lambda x, z: lax.dot_general(x, z, numbers, **how)


SIZES = {"B": 2, "C": 3, "k": 4, "l": 2, "m": 3, "n": 5, "o": 2, "z": 0}


def shape(letters: str) -> tuple[int, ...]:
    return tuple(SIZES[c] for c in letters)


def case(lhs: str, rhs: str, dtypes: tuple[str, ...] = FLOATS, name: str = "", **how) -> Case:
    return Case(
        p.dot_general_p,
        product(lhs, rhs, **how),
        (shape(lhs), shape(rhs)),
        dtypes,
        name=f"{lhs},{rhs} {name}",
    )


def mixed(x_dtype: str | None, z_dtype: str | None, **how) -> Callable:
    fun = product("mk", "kn", **how)
    return lambda x, z: fun(x.astype(x_dtype or x.dtype), z.astype(z_dtype or z.dtype))


CASES = [
    case("mk", "kn", NUMBERS),
    case("km", "nk"),
    case("mk", "nk"),
    case("k", "k"),
    case("mk", "k"),
    case("k", "kn"),
    case("m", "n"),
    case("", "n"),
    case("", ""),
    case("Bmk", "Bkn", NUMBERS),
    case("BCmk", "CkBn"),
    case("mBk", "nkB"),
    case("B", "B"),
    case("kBml", "nlBk"),
    case("klm", "lnk"),
    case("mko", "nk"),
    case("mz", "zn", name="sum of nothing"),
    case("zk", "kn", name="empty"),
    case("Bmk", "Bkn", precision=lax.Precision.HIGHEST, name="highest"),
    case("mk", "kn", ("bfloat16",), preferred_element_type=jnp.float32, name="summed in float32"),
    Case(p.dot_general_p, lambda x: product("mk", "nk")(x, x), ((3, 4),), NUMBERS, name="itself"),
    *(
        Case(
            p.dot_general_p,
            mixed(*dtypes, preferred_element_type=jnp.dtype(preferred)),
            ((3, 4), (4, 5)),
            ("float32",),
            name=f"{dtypes} in {preferred}",
        )
        for dtypes, preferred in [
            (("bfloat16", None), "float32"),
            ((None, "bfloat16"), "float32"),
            (("bfloat16", "bfloat16"), "float32"),
            (("float16", "float16"), "float32"),
            ((None, "complex64"), "complex64"),
        ]
    ),
]


TestRules = rule_tests(products.RULES, CASES, composed=("float32", "complex64"))


@st.composite
def letters(draw) -> tuple[str, str]:
    def some(pool: str) -> str:
        return "".join(draw(st.lists(st.sampled_from(pool), unique=True)))

    shared = some("BCkl")
    return tuple("".join(draw(st.permutations(shared + some(own)))) for own in ("mz", "no"))


@given(letters())
@settings(max_examples=25)
def test_any_dimension_numbers_have_jaxs_cotangents(sides):
    rng = np.random.default_rng(0)
    x, z = (rng.normal(size=shape(side)).astype(np.float32) for side in sides)
    y, pullback = fbp.vjp(product(*sides), x, z)
    ct = rng.normal(size=y.shape).astype(np.float32)
    for got, want in zip(pullback(ct), jax.vjp(product(*sides), x, z)[1](ct), strict=True):
        assert got.shape == want.shape
        assert ulps(got, want) <= 4


@pytest.mark.parametrize(
    ("lhs", "rhs", "transposed"),
    [("mk", "kn", 0), ("Bmk", "Bkn", 0), ("mBk", "nBk", 2), ("mk", "nk", 0), ("km", "nk", 0)],
)
def test_a_product_costs_one_equation_and_a_transposition_where_the_order_asks(
    lhs, rhs, transposed
):
    x, z = (np.ones(shape(side), np.float32) for side in (lhs, rhs))
    y, pullback = fbp.vjp(product(lhs, rhs), x, z)
    used = primitives(lambda ct: pullback(ct), y)
    assert used["dot_general"] == 2
    assert used["transpose"] == transposed
    assert sum(used.values()) == 2 + transposed


def test_jax_numpy_products_have_jaxs_gradient():
    a, b = (np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32) for _ in range(2))

    def fun(a, b):
        attention = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", a, b))
        mixed = jnp.einsum("bqk,bkd->bqd", attention, b)
        return (
            (mixed @ b).sum()
            + jnp.vdot(a, mixed)
            + jnp.tensordot(a, b, ((0, 2), (0, 1))).sum()
            + jnp.outer(a[0, 0], b[0, 0]).sum()
            + jnp.einsum("jii->j", a).sum()
        )

    got, want = fbp.grad(fun, (0, 1))(a, b), jax.grad(fun, (0, 1))(a, b)
    assert all(ulps(g, w) <= 16 for g, w in zip(got, want, strict=True))
