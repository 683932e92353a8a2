"""Loops within shard_map, whose devices may take different numbers of steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import fbp
from tests.support.agreement import assert_agree, assert_same

X = jnp.array([0.0, 2.0, 3.0, 0.0])
TRIPS = jnp.array([0, 2, 3, 0], jnp.int32)
W = jnp.float32(0.7)
TYPES = pytest.mark.parametrize("check_vma", [True, False])


def mapped(fun, check_vma=True):
    """The sum over two devices of what a function makes of its part."""
    return jax.shard_map(
        lambda *args: lax.psum(fun(*args), "d"),
        mesh=jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2]),
        in_specs=(P(), P("d"), P("d")),
        out_specs=P(),
        check_vma=check_vma,
    )


@TYPES
def test_collectives_in_body_and_condition(check_vma):
    def fun(w, x, _):
        def more(c):
            return (c[1] < 3) & (lax.psum(jnp.sum(c[0]), "d") < 1e3)

        def body(c):
            return jnp.sin(c[0] + w * x * lax.pmean(jnp.sum(c[0]), "d")), c[1] + 1

        return jnp.sum(lax.while_loop(more, body, (x, jnp.int32(0)))[0])

    def written_out(w, x):
        c = x
        for _ in range(3):
            c = jnp.sin(c + w * x * jnp.sum(c) / 2)
        return jnp.sum(c)

    run = mapped(fun, check_vma)

    def both(*gradients):
        return jax.jit(lambda w, x: [gradient(w, x) for gradient in gradients])(W, X)

    loss = lambda w, x: run(w, x, TRIPS)
    assert_same(*both(fbp.grad(loss, (0, 1)), jax.grad(written_out, (0, 1))), 16)
    assert_same(*both(fbp.grad(fbp.grad(loss)), jax.grad(jax.grad(written_out))), 64)


BODIES = {
    "plain": lambda w, x, y: w * y / x,
    "in_jit": lambda w, x, y: jax.jit(lambda w, y: w * y)(jax.jit(jnp.sin)(w), y) / x,
}


@TYPES
@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("lanes", [1, 2])
def test_devices_that_take_different_numbers_of_steps(name, lanes, check_vma):
    def lane(w, x, n):
        body = lambda c: (c[0] + 1, BODIES[name](w, x, c[1]))
        return lax.while_loop(lambda c: c[0] < n, body, (jnp.int32(0), 1 + 0 * x))[1]

    def fun(w, x, n):
        batch = jax.vmap(functools.partial(lane, w))
        return jnp.sum(batch(x, n)) if lanes == 2 else lane(w, x[0] + x[1], n[0] + n[1])

    def written_out(w, x, n):
        w = jnp.sin(w) if name == "in_jit" else w
        if lanes == 1:
            x, n = x.reshape(2, 2).sum(1), n.reshape(2, 2).sum(1)
        return sum((w / x[i]) ** int(k) if k else 1.0 + 0 * x[i] for i, k in enumerate(n.tolist()))

    ours = fbp.grad(mapped(fun, check_vma), (0, 1))
    theirs = jax.grad(lambda w, x, _: written_out(w, x, np.asarray(TRIPS)), (0, 1))
    assert_agree(ours, theirs, W, X, TRIPS, tolerance=16)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_state_that_is_typed_as_the_same_on_all_devices_raises(lanes):
    def lane(w, n):
        body = lambda c: (c[0] + 1, c[1] * w)
        return lax.while_loop(lambda c: c[0] < n, body, (jnp.int32(0), w))[1]

    def fun(w, _, n):
        return jnp.sum(jax.vmap(lane, (None, 0))(w, n)) if lanes == 2 else lane(w, n[0])

    with pytest.raises(ValueError, match=r"varies along the mesh axes d.*pcast"):
        jax.jit(fbp.grad(mapped(fun)))(W, X, TRIPS)


def test_a_sum_in_each_of_different_numbers_of_steps_raises():
    def fun(w, x, n):
        def body(c):
            return c[0] + 1, lax.cond(c[0] > 0, lambda y: y * w, lambda y: y, c[1])

        start = jnp.int32(0), jnp.sum(x)
        return lax.while_loop(lambda c: c[0] < n[0], body, start)[1]

    with pytest.raises(ValueError, match=r"sums in each step backward.*pcast"):
        jax.jit(fbp.grad(mapped(fun)))(W, X, TRIPS)
