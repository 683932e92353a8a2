"""Axes that vmap has batched are told from others by what is done with them, not by their size."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from fbp.autodiff import graph as g
from fbp.autodiff.lanes import lanes_of_consts
from tests.support.jaxprs import staged

M = jnp.ones((3, 3))
H = jnp.ones((3, 3))
N = jnp.arange(3)


def lanes(step, const, axis, lanes=1):
    """The lanes of the constant of the loop h -> step(const, h)."""

    def fun(c, n, h):
        return lax.while_loop(lambda s: s[0] > 0, lambda s: (s[0] - 1, step(c, s[1])), (n, h))

    for _ in range(lanes):
        fun = jax.vmap(fun, (axis, 0, 0))
    size = (3,) * (lanes - 1)
    n, h = jnp.ones((*size, 3), int), jnp.ones((*size, *H.shape))
    loop, *_ = [e for e in staged(fun, const, n, h) if str(e.primitive) == "while"]
    body = g.from_jaxpr(loop.params["body_jaxpr"])
    found = lanes_of_consts(body, loop.params["body_nconsts"], lanes)
    return [f for f, v in zip(found, body.invars, strict=False) if v.aval.shape == const.shape]


STEPS = {
    "product": lambda c, h: c @ h,
    "scaled": lambda c, h: h * c[0],
    "transposed": lambda c, h: c.T @ h,
    "reshaped": lambda c, h: h * c.reshape(9)[:3],
    "gathered": lambda c, h: h + c[jnp.argmax(h)],
    "sliced": lambda c, h: lax.dynamic_slice_in_dim(c[0], jnp.argmax(h), 1)[0] + h,
    "updated": lambda c, h: c.at[0].set(h)[:, 0],
    "scattered": lambda c, h: jnp.zeros(3).at[jnp.array([0, 0, 1])].add(c[1]) * h,
    "reduced": lambda c, h: h * jnp.sum(c) + jnp.max(c, 0),
    "sorted": lambda c, h: jnp.sort(c, 0)[0] * h,
    "joined": lambda c, h: jnp.concatenate([c[0], h])[2:5],
    "stacked": lambda c, h: jnp.stack([c[0], h], 1)[:, 0],
    "unstacked": lambda c, h: jnp.unstack(c, axis=1)[0] + h,
    "tiled": lambda c, h: jnp.tile(c[0], 2)[:3] + h,
    "barred": lambda c, h: lax.optimization_barrier((h, c @ h))[1],
    "over_windows": lambda c, h: lax.reduce_window(c[0], -jnp.inf, lax.max, (2,), (1,), "SAME") + h,
    "padded": lambda c, h: jnp.pad(c[0], 1)[:3] + h,
    "factored": lambda c, h: jnp.linalg.cholesky(c) @ h,
    "solved": lambda c, h: jax.scipy.linalg.solve_triangular(c, h),
    "decomposed": lambda c, h: jnp.linalg.svd(c)[1] + h,
    "in_jit": lambda c, h: jax.jit(lambda c, h: c @ h)(c, h),
    "in_scan": lambda c, h: lax.scan(lambda h, x: (h * x, None), h, c)[0],
    "in_loop": lambda c, h: lax.while_loop(lambda h: h[0] < 0, lambda h: c @ h, h),
    "in_cond": lambda c, h: lax.cond(h[0] > 0, lambda h: c @ h, lambda h: h, h),
    "in_remat": jax.checkpoint(lambda c, h: c @ h),
    "in_custom_jvp": lambda c, h: jax.nn.relu(c) @ h,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_lanes_constant_is_known_for_one(name):
    for axis in (0, 1, 2):
        assert lanes(STEPS[name], jnp.ones((3, 3, 3)), axis) == [{0: axis}]


@pytest.mark.parametrize("name", STEPS)
def test_what_is_shared_is_no_lane_though_its_sizes_are_those_of_the_lanes(name):
    assert lanes(STEPS[name], M, None) == [{}]


def test_lanes_of_two_vmaps_are_told_apart():
    assert lanes(STEPS["product"], jnp.ones((3, 3, 3, 3)), 0, lanes=2) == [{0: 0, 1: 1}]
