"""Spikes with surrogate derivatives, and rounding straight through, in functions as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from fbp import gallery

V = jnp.array([-1.0, 0.2, 0.9, 1.0, 1.1, 3.0])
SHAPES = {
    "fast sigmoid": (gallery.fast_sigmoid(5.0), lambda u: 1 / (1 + 5 * np.abs(u)) ** 2),
    "arctan": (gallery.arctan(3.0), lambda u: 1.5 / (1 + (1.5 * np.pi * u) ** 2)),
    "boxcar": (gallery.boxcar(0.5), lambda u: 2.0 * (np.abs(u) < 0.25)),
}
SPIKES = {
    "cast": lambda v, t: (v > t).astype(v.dtype),
    "at least": lambda v, t: (v >= t).astype(v.dtype),
    "less": lambda v, t: (t < v).astype(v.dtype),
    "at most": lambda v, t: (t <= v).astype(v.dtype),
    "where": lambda v, t: jnp.where(v > t, 1.0, 0.0),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spike", SPIKES)
def test_a_spike_has_its_surrogate_derivative(spike, shape):
    surrogate, by_hand = SHAPES[shape]
    fun = lambda v, t: jnp.sum(V * SPIKES[spike](v, t))
    rules = fbp.RULES | gallery.spikes(surrogate)
    value, (v_ct, t_ct) = fbp.value_and_grad(fun, (0, 1), rules=rules)(V, jnp.float32(1.0))
    assert value == fun(V, jnp.float32(1.0))
    want = V * by_hand(np.asarray(V) - 1)
    np.testing.assert_allclose(v_ct, want, rtol=1e-6)
    np.testing.assert_allclose(t_ct, -want.sum(), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_area_under_a_surrogate_is_what_it_says(shape):
    surrogate, _ = SHAPES[shape]
    u = jnp.linspace(-1000, 1000, 2_000_001)
    area = {"fast sigmoid": 2 / 5, "arctan": 1, "boxcar": 1}[shape]
    np.testing.assert_allclose(jnp.sum(surrogate(u)) * 1e-3, area, rtol=2e-3)


def test_a_spiking_network_learns_through_time():
    """Leaky neurons with reset, in a scan, against the chain rule written out."""

    def network(w, x):
        def step(v, x):
            v = 0.9 * v + x @ w
            s = (v > 1.0).astype(v.dtype)
            return v * (1 - s), s

        return jnp.sum(lax.scan(step, jnp.zeros(3), x)[1] * jnp.arange(3.0)[None])

    @jax.custom_vjp
    def spike(v):
        return (v > 1.0).astype(v.dtype)

    spike.defvjp(lambda v: (spike(v), v), lambda v, ct: (ct / (1 + 25 * jnp.abs(v - 1)) ** 2,))

    def by_hand(w, x):
        v, total = jnp.zeros(3), 0.0
        for row in x:
            v = 0.9 * v + row @ w
            s = spike(v)
            v, total = v * (1 - s), total + jnp.sum(s * jnp.arange(3.0))
        return total

    rng = np.random.default_rng(0)
    w, x = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 3), (6, 2)))
    got = fbp.grad(network, rules=fbp.RULES | gallery.spikes(gallery.fast_sigmoid()))(w, x)
    np.testing.assert_allclose(got, jax.grad(by_hand)(w, x), rtol=1e-4, atol=1e-6)
    assert np.abs(got).max() > 0


def test_a_spike_read_twice_has_both_cotangents():
    def fun(v):
        fired = v > 1.0
        return jnp.sum(2 * fired.astype(v.dtype) + 3 * jnp.where(fired, 5.0, 1.0) * 1.0)

    got = fbp.grad(fun, rules=fbp.RULES | gallery.spikes(gallery.boxcar(10.0)))(V)
    np.testing.assert_allclose(got, jnp.full(6, (2 + 3 * 4) / 10), rtol=1e-6)


def test_no_spike_is_an_error():
    with pytest.raises(fbp.InputError, match="no site"):
        fbp.grad(jnp.sin, rules=fbp.RULES | gallery.spikes(gallery.arctan()))(1.0)


@pytest.mark.parametrize("step", [jnp.round, jnp.floor, jnp.ceil, jnp.sign])
def test_steps_are_passed_straight_through(step):
    fun = lambda x: jnp.sum(V * step(x))
    got = fbp.grad(fun, rules=fbp.RULES | gallery.straight_through())(V)
    np.testing.assert_allclose(got, V)
    got = fbp.grad(fun, rules=fbp.RULES | gallery.straight_through(limit=1.0))(V)
    np.testing.assert_allclose(got, jnp.where(jnp.abs(V) <= 1, V, 0))


def test_straight_through_holds_at_its_site_alone():
    def fun(x):
        with jax.named_scope("quantizer"):
            y = jnp.round(x)
        return jnp.sum(y + jnp.round(2 * x))

    got = fbp.grad(fun, rules=fbp.RULES | gallery.straight_through("quantizer"))(V)
    np.testing.assert_allclose(got, 1.0)
