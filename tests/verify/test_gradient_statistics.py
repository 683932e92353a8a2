"""Gradients that vanish or explode are seen, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fbp
from fbp.verify import gradient_statistics, plot_gradients

DEPTH, WIDTH = 30, 32


def deep(scale):
    """A deep network of sigmoid or linear layers, its loss, and its parameters."""
    rng = np.random.default_rng(0)
    draw = lambda: jnp.asarray(rng.normal(0, scale / WIDTH**0.5, (WIDTH, WIDTH)), jnp.float32)
    return [{"w": draw()} for _ in range(DEPTH)]


def loss(activation, params, x):
    for layer in params:
        x = activation(x @ layer["w"])
    return jnp.mean(x**2)


def statistics(activation, scale, rate=0.1):
    params, x = deep(scale), jnp.ones((8, WIDTH))
    tx = optax.sgd(rate)

    @jax.jit
    def measured(params):
        grads = fbp.grad(lambda p: loss(activation, p, x))(params)
        updates, _ = tx.update(grads, tx.init(params))
        return grads, updates, gradient_statistics(params, grads, updates)

    return params, *measured(params)


def test_each_number_is_what_its_name_says():
    params, grads, updates, found = statistics(jax.nn.relu, 1.4)
    for layer, grad, update, made in zip(params, grads, updates, found, strict=True):
        leaf, norm = made["w"], np.linalg.norm
        np.testing.assert_allclose(leaf.norm, norm(grad["w"]), rtol=1e-5)
        np.testing.assert_allclose(leaf.zeros, np.mean(np.asarray(grad["w"]) == 0), rtol=1e-6)
        np.testing.assert_allclose(
            leaf.update_ratio, norm(update["w"]) / norm(layer["w"]), rtol=1e-5
        )


def test_vanishing_is_seen():
    norms = [float(s["w"].norm) for s in statistics(jax.nn.sigmoid, 1.0)[-1]]
    assert norms[0] < 1e-9 * norms[-1]


def test_exploding_is_seen():
    norms = [float(s["w"].norm) for s in statistics(lambda x: x, 3.0)[-1]]
    assert max(norms) > 1e9


def test_dead_units_are_seen():
    params, grads = {"w": jnp.ones(4)}, {"w": jnp.array([0.0, 0.0, 0.0, 1.0])}
    assert gradient_statistics(params, grads, grads)["w"].zeros == 0.75


def test_a_norm_does_not_overflow_in_float16():
    x = {"w": jnp.full(4, 300, jnp.float16)}
    assert gradient_statistics(x, x, x)["w"].norm == 600


def test_a_gradient_of_zeros_and_a_parameter_of_zeros_have_finite_statistics():
    zero = {"w": jnp.zeros(3)}
    found = gradient_statistics(zero, zero, zero)["w"]
    assert found == (0.0, 1.0, 0.0)


def test_nan_is_not_hidden():
    x = {"w": jnp.array([1.0, jnp.nan])}
    assert np.isnan(gradient_statistics(x, x, x)["w"].norm)


def test_other_structures_raise():
    with pytest.raises(ValueError, match=r"."):
        gradient_statistics({"w": jnp.ones(2)}, {"v": jnp.ones(2)}, {"w": jnp.ones(2)})


def test_the_plot_shows_every_leaf():
    figure = plot_gradients(statistics(jax.nn.sigmoid, 1.0)[-1])
    norm, _, zeros = figure.axes
    assert len(norm.lines[0].get_xdata()) == DEPTH
    names = [label.get_text() for label in zeros.get_xticklabels()]
    assert names == [f"{i}.w" for i in range(DEPTH)]
    figure.canvas.draw()
