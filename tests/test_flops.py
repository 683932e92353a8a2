"""The work of a function."""

import math

import jax
import jax.numpy as jnp
import pytest

from fbp.flops import flops


def test_a_constant_takes_no_operation():
    assert flops(lambda: jnp.float32(1.0)) == 0


def test_flops_of_a_gradient_are_three_times_those_of_the_loss():
    x, w = jnp.ones((64, 32)), jnp.ones((32, 128))
    loss = lambda w, x: jnp.sum((x @ w) ** 2)
    one = flops(lambda w, x: x @ w, w, x)
    assert one == 2 * 64 * 32 * 128
    assert flops(jax.grad(loss, (0, 1)), w, x) == pytest.approx(3 * one, rel=0.1)


def test_flops_are_unknown_without_a_cpu(monkeypatch):
    def no_cpu(**_):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", no_cpu)
    assert flops(jnp.sin, jnp.ones(3)) == math.inf
