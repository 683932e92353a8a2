"""Rearranging arrays: every cotangent goes back to where its element came from."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

import fbp
from fbp.autodiff.rules import shape
from fbp.testing import NUMBERS, Case
from tests.support.jaxprs import primitives
from tests.support.table import rule_tests

MOVES = [
    Case(p.reshape_p, lambda x: lax.reshape(x, (2, 6)), ((3, 4),), NUMBERS),
    Case(p.reshape_p, lambda x: lax.reshape(x, (2, 6), (1, 0)), ((3, 4),), NUMBERS, name="moved"),
    Case(p.reshape_p, lambda x: lax.reshape(x, (4, 6), (2, 0, 1)), ((2, 3, 4),), name="turned"),
    Case(p.reshape_p, lambda x: lax.reshape(x, (1, 1)), ((),), name="scalar"),
    Case(p.reshape_p, lambda x: lax.reshape(x, (5, 0), (1, 0)), ((0, 3),), name="empty"),
    Case(p.squeeze_p, lambda x: lax.squeeze(x, (0, 2)), ((1, 3, 1),), NUMBERS),
    Case(p.squeeze_p, lambda x: lax.squeeze(x, (-1,)), ((0, 1),), name="empty"),
    Case(p.transpose_p, lambda x: lax.transpose(x, (2, 0, 1)), ((2, 3, 4),), NUMBERS),
    Case(p.transpose_p, lambda x: lax.transpose(x, (1, 0)), ((0, 3),), name="empty"),
    Case(p.rev_p, lambda x: lax.rev(x, (0, 2)), ((2, 3, 4),), NUMBERS),
    Case(p.rev_p, lambda x: lax.rev(x, (0,)), ((0, 3),), name="empty"),
]


def broadcast(shape: tuple[int, ...], dimensions: tuple[int, ...]):
    return lambda x: lax.broadcast_in_dim(x, shape, dimensions)


COPIES = [
    Case(p.broadcast_in_dim_p, broadcast((2, 3, 4), (1, 2)), ((3, 4),), NUMBERS),
    Case(p.broadcast_in_dim_p, broadcast((3, 2, 4), (0, 2)), ((3, 1),), NUMBERS, name="stretched"),
    Case(p.broadcast_in_dim_p, broadcast((3, 1, 4), (0, 2)), ((3, 4),), name="expanded"),
    Case(p.broadcast_in_dim_p, broadcast((3, 4), ()), ((),), name="scalar"),
    Case(p.broadcast_in_dim_p, broadcast((3, 1), (0, 1)), ((1, 1),), name="one row"),
    Case(p.broadcast_in_dim_p, broadcast((2, 0), (1,)), ((0,),), name="empty"),
    Case(p.broadcast_in_dim_p, broadcast((2, 0), (0, 1)), ((2, 1),), name="to empty"),
    Case(lax.tile_p, lambda x: lax.tile(x, (2, 3)), ((3, 4),), NUMBERS),
    Case(lax.tile_p, lambda x: lax.tile(x, (1, 0, 2)), ((2, 3, 2),), name="to empty"),
    Case(lax.tile_p, lambda x: lax.tile(x, (2,)), ((0,),), name="empty"),
]


def pad(*config: tuple[int, int, int]):
    return lambda x, value: lax.pad(x, value, config)


# JAX finds the padding value's cotangent as a difference of two sums: see the test below.
PADS = [
    Case(
        p.pad_p,
        pad(*config),
        (shape, ()),
        NUMBERS[: 2 + 3 * (i < 2)],
        tolerance=40,
        name=f"{config}",
    )
    for i, (shape, *config) in enumerate(
        [
            ((3, 4), (1, 2, 0), (0, 1, 2)),
            ((3, 4), (-1, 2, 1), (3, -2, 0)),
            ((3, 4), (0, 0, 0), (0, 0, 0)),
            ((3, 4), (-1, -1, 0), (-2, -2, 2)),
            ((3, 4), (2, -1, 1), (-1, 1, 1)),
            ((3, 4), (-2, -1, 0), (0, 0, 0)),
            ((0, 4), (1, 1, 2), (0, 0, 0)),
            ((1, 4), (0, 0, 3), (-3, 9, 1)),
            ((),),
        ]
    )
]


def joined(*sizes: int, axis: int = 0):
    return lambda x: lax.concatenate([x * x, *(lax.full_like(x[:n], 1) for n in sizes), x], axis)


PARTS = [
    Case(p.concatenate_p, lambda x, y: lax.concatenate([x, y], 1), ((2, 3), (2, 1)), NUMBERS),
    Case(p.concatenate_p, joined(1, 0, 2), ((2, 3),), name="some constant"),
    Case(p.concatenate_p, lambda x: p.concatenate_p.bind(x, dimension=0), ((2,),), name="alone"),
    Case(p.concatenate_p, lambda x, y: lax.concatenate([x, y], 0), ((0, 2), (3, 2)), name="empty"),
    Case(lax.split_p, lambda x: lax.split(x, (1, 2), 1), ((2, 3),), NUMBERS),
    Case(lax.split_p, lambda x: lax.split(x, (1, 0, 3), 1)[2], ((2, 4),), name="one used"),
    Case(lax.split_p, lambda x: lax.split(x, (0, 0), 0), ((0, 4),), name="empty"),
    Case(lax.stack_p, lambda x, y: lax.stack([x, y], 1), ((2, 3), (2, 3)), NUMBERS),
    Case(
        lax.stack_p, lambda x: lax.stack([x, x * x, lax.full_like(x, 2)], -1), ((),), name="scalars"
    ),
    Case(lax.stack_p, lambda x: lax.stack([x, x]), ((0, 3),), name="empty"),
    Case(lax.unstack_p, lambda x: lax.unstack(x, 1), ((2, 3),), NUMBERS),
    Case(lax.unstack_p, lambda x: lax.unstack(x, -1)[1], ((2, 3),), name="one used"),
    Case(lax.unstack_p, lambda x: lax.unstack(x, 1), ((0, 3),), name="empty"),
]

CASES = (*MOVES, *COPIES, *PADS, *PARTS)


TestRules = rule_tests(shape.RULES, CASES, composed=("float32", "complex64"))


def test_padding_values_cotangent_is_not_rounded_by_what_was_not_padding():
    ct = jnp.full((1000,), 1e6).at[0].set(0.125)
    (of_value,) = fbp.vjp(lambda v: lax.pad(jnp.zeros(999), v, [(1, 0, 0)]), 1.0)[1](ct)
    assert of_value == 0.125


def test_rearranging_costs_one_equation_each():
    def backward(fun, x):
        y, pullback = fbp.vjp(fun, x)
        return primitives(lambda ct: pullback(ct), y)

    x = np.ones((3, 4), np.float32)
    assert backward(lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (1, 2)), x) == {"reduce_sum": 1}
    assert backward(lambda x: lax.reshape(x, (12,)), x) == {"reshape": 1}
    assert backward(lambda x: lax.pad(x, np.float32(0), [(1, 1, 0), (0, 2, 1)]), x) == {"slice": 1}
    assert backward(lambda x: lax.slice(x, (1, 0), (3, 4), (1, 2)), x) == {"pad": 1}
    assert backward(lambda x: jnp.concatenate([x, x[:1]]), x)["split"] == 1


def test_jax_numpy_rearrangements_have_jaxs_gradient():
    x = jnp.arange(12.0).reshape(3, 4)

    def fun(x):
        rolled = jnp.roll(x, (1, -1), (0, 1))
        repeated = jnp.repeat(x, np.array([1, 0, 2]), axis=0, total_repeat_length=3)
        edges = (
            jnp.pad(x, 1, mode="edge").sum() + jnp.pad(x, ((0, 1), (2, 0)), mode="reflect").sum()
        )
        blocks = jnp.block([[x, x.T[:3, :2]], [x[:1], x[1:2, :2]]])
        return (rolled * repeated).sum() + edges + (blocks**2).sum() + jnp.tril(x @ x.T).sum()

    np.testing.assert_allclose(fbp.grad(fun)(x), jax.grad(fun)(x), rtol=1e-6)
