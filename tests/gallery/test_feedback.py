"""Feedback weights in stacked, shared and convolutional layers, and what draws random numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from fbp import gallery


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


@jax.custom_vjp
def product(x, w, b):
    """x w, whose cotangent goes back through b."""
    return x @ w


product.defvjp(
    lambda x, w, b: (x @ w, (x, w, b)),
    lambda res, ct: (ct @ res[2].T, res[0].T @ ct, jnp.zeros_like(res[2])),
)


def scanned(p, x):
    """Layers stacked for a scan, and one layer used in each iteration of two loops."""
    step = lambda h, w: (jnp.tanh(h @ w.T @ p["v"]), None)
    h = lax.scan(step, x, p["w"], reverse=True)[0]
    return jnp.sum(lax.fori_loop(0, 2, lambda _, h: jnp.tanh(h @ p["v"]), h))


def scanned_by_hand(p, b, x):
    h = x
    for i in reversed(range(3)):
        h = jnp.tanh(product(product(h, p["w"][i].T, b["w"][i].T), p["v"], b["v"]))
    for _ in range(2):
        h = jnp.tanh(product(h, p["v"], b["v"]))
    return jnp.sum(h)


PARAMS = {"w": draw(3, 4, 4), "v": draw(4, 4)}
OTHERS = {"w": draw(3, 4, 4, seed=1), "v": draw(4, 4, seed=1)}
X = draw(5, 4)


def assert_same(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), got, want)


@pytest.mark.parametrize(
    ("edit", "weights"),
    [
        (gallery.feedback_alignment(OTHERS), lambda w, o: o),
        (gallery.uniform_sign_feedback(), lambda w, _: jnp.sign(w) / 2),
        (gallery.fixed_random_sign_feedback(OTHERS), lambda w, o: jnp.abs(o) * jnp.sign(w)),
    ],
    ids=["FA", "uSF", "frSF"],
)
def test_stacked_and_shared_layers_have_their_feedback_weights(edit, weights):
    got = jax.jit(fbp.grad(scanned, rules=fbp.RULES | edit))(PARAMS, X)
    feedback = jax.tree.map(weights, PARAMS, OTHERS)
    assert_same(got, jax.jit(jax.grad(scanned_by_hand))(PARAMS, feedback, X))


def test_feedback_of_a_convolution_is_a_convolution():
    def network(p, x):
        h = jnp.tanh(lax.conv_general_dilated(x, p[0], (1,), "SAME"))
        return jnp.sum(jnp.tanh(lax.conv_general_dilated(h, p[1], (2,), "SAME")))

    kernels, others = [draw(3, 2, 3), draw(4, 3, 3)], [draw(3, 2, 3, seed=1), draw(4, 3, 3, seed=1)]
    x = draw(2, 2, 6)
    got = fbp.grad(network, rules=fbp.RULES | gallery.feedback_alignment(others))(kernels, x)
    h, pullback = jax.vjp(
        lambda w: jnp.tanh(lax.conv_general_dilated(x, w, (1,), "SAME")), kernels[0]
    )
    y = jnp.tanh(lax.conv_general_dilated(h, kernels[1], (2,), "SAME"))
    convolve = lambda h, w: lax.conv_general_dilated(h, w, (2,), "SAME")
    (h_ct,) = jax.vjp(lambda h: convolve(h, others[1]), h)[1](1 - y**2)
    (last,) = jax.vjp(lambda w: convolve(h, w), kernels[1])[1](1 - y**2)
    assert_same(got, [pullback(h_ct)[0], last])
    scaled = fbp.grad(network, rules=fbp.RULES | gallery.uniform_sign_feedback())(kernels, x)
    scale = np.sqrt(2 / (3 * 3 + 4 * 3))  # features times window
    signs = [None, scale * jnp.sign(kernels[1])]
    (h_ct,) = jax.vjp(lambda h: convolve(h, signs[1]), h)[1](1 - y**2)
    assert_same(scaled[0], pullback(h_ct)[0])


def two_layers(ws, x):
    return jnp.sum(jnp.sin(jnp.arange(3.0))[None] * (x @ ws[0] @ ws[1]))


WS = [draw(4, 2), draw(2, 3)]


def mean_of_draws(make):
    """Return the mean gradient of the first layer over 10^4 keys, and its standard error."""
    grad = lambda key: fbp.grad(two_layers, rules=make(key))(WS, X)[0]
    draws = jax.jit(jax.vmap(grad))(jax.random.split(jax.random.key(0), 10_000))
    return draws.mean(0), draws.std(0) / 100


def assert_mean(make, want):
    mean, error = mean_of_draws(make)
    assert np.all(np.abs(mean - want) <= 4 * error + 1e-6 * np.abs(want))


def test_random_magnitudes_have_the_mean_of_half_the_signs():
    make = lambda key: fbp.RULES | gallery.batch_random_sign_feedback(key, scale=2.0)
    ct = jnp.broadcast_to(jnp.sin(jnp.arange(3.0)), (5, 3))
    assert_mean(make, X.T @ ct @ jnp.sign(WS[1]).T)


@pytest.mark.parametrize(
    "edit",
    [gallery.quantized_backward(3), gallery.fp8_backward(), gallery.fp8_backward("float8_e4m3fn")],
    ids=["3 bits", "e5m2", "e4m3"],
)
def test_stochastic_rounding_is_right_in_the_mean(edit):
    make = lambda key: (fbp.RULES | edit).with_key(key)
    assert_mean(make, jax.grad(two_layers)(WS, X)[0])
    assert float(mean_of_draws(make)[1].max()) > 0


@pytest.mark.parametrize("dtype", ["float8_e5m2", "float8_e4m3fn"])
def test_rounded_cotangents_are_floats_of_few_bits(dtype):
    values = jnp.concatenate([draw(64) * 10.0 ** jnp.arange(-8.0, 8.0).repeat(4), jnp.zeros(1)])
    f = lambda w: jnp.sum(values[None] * (jnp.ones((1, 1)) @ w))
    rules = (fbp.RULES | gallery.fp8_backward(dtype)).with_key(jax.random.key(0))
    (got,) = fbp.grad(f, rules=rules)(jnp.ones((1, 65)))
    np.testing.assert_array_equal(got, got.astype(dtype).astype("float32"))
    info = jnp.finfo(dtype)
    clipped = jnp.clip(values, float(info.min), float(info.max))
    spacing = jnp.maximum(jnp.abs(clipped) * 2.0**-info.nmant, float(info.smallest_subnormal))
    assert jnp.all(jnp.abs(got - clipped) <= spacing)


def test_zero_cotangents_are_rounded_to_zero():
    f = lambda w: 0 * jnp.sum(jnp.ones((1, 1)) @ w)
    for edit in (gallery.quantized_backward(4), gallery.fp8_backward()):
        rules = (fbp.RULES | edit).with_key(jax.random.key(0))
        assert fbp.grad(f, rules=rules)(jnp.ones((1, 2))).max() == 0


def test_a_key_draws_one_matrix_for_good():
    """With x = 1, the first layer's gradient is e B, from which B follows."""
    network, loss = (lambda ws, x: x @ ws[0] @ ws[1]), (lambda z, y: jnp.sum(z * y))
    ws = [draw(4, 50), draw(50, 3)]
    dfa = gallery.direct_feedback_alignment(network, loss, jax.random.key(3))
    errors = [draw(4, 3, seed=seed) for seed in (0, 1)]
    first, second = (jnp.linalg.lstsq(e, dfa(ws, jnp.eye(4), e)[0])[0] for e in errors)
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first.std(), np.sqrt(2 / (3 + 50)), rtol=0.3)


def test_feedback_that_does_not_fit_is_refused():
    refused = [
        (gallery.feedback_alignment([draw(4, 2)]), "1 leaves"),
        (gallery.feedback_alignment([draw(4, 2), draw(3, 2)]), r"\[3, 2\].*test_feedback\.py"),
    ]
    for edit, message in refused:
        with pytest.raises(fbp.InputError, match=message):
            fbp.grad(two_layers, rules=fbp.RULES | edit)(WS, X)
    network, loss = (lambda ws, x: x @ ws[0] @ ws[1]), (lambda z, y: jnp.sum(z * y))
    for matrices, message in (([], "no feedback matrix"), ([draw(2, 2)], r"\[3, 2\] is needed")):
        with pytest.raises(fbp.InputError, match=message):
            gallery.direct_feedback_alignment(network, loss, matrices)(WS, X, draw(5, 3))


def test_angles_are_those_between_leaves():
    x = jnp.array([1.0, 1.0])
    got = gallery.angles({"a": x, "b": x}, {"a": -x, "b": jnp.array([1.0, 0.0])})
    np.testing.assert_allclose([got["a"], got["b"]], [180.0, 45.0], rtol=1e-5)
