"""Relevance in convolutions, blocks, loops and attention, and what attributions refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from fbp import gallery


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


W, V, B = draw(4, 4), draw(4, 3), draw(4, seed=1)
STACK = draw(3, 4, 4)
X = draw(2, 4)


def relu_net(x):
    return jax.nn.relu(x @ W) @ V


def residual(x):
    return (x + jax.nn.relu(x @ W)) @ V


def scanned(x):
    return lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, STACK)[0] @ V


def einsum(x):
    return jnp.einsum("nd,dp->np", jax.nn.relu(jnp.einsum("nd,pd->np", x, W)), V)


def pooled(x):
    h = lax.conv_general_dilated(x[:, None, :], draw(3, 1, 2), (1,), "SAME")
    h = lax.reduce_window(jax.nn.relu(h), -jnp.inf, lax.max, (1, 1, 2), (1, 1, 1), "VALID")
    return h.mean(-1) @ draw(3, 2)


def attention(x):
    x = x.reshape(1, 2, 4)
    weights = jax.nn.softmax(jnp.einsum("nsd,ntd->nst", x @ W, x @ W), axis=-1)
    return jnp.einsum("nst,ntd->nsd", lax.stop_gradient(weights), x @ V).sum(1)


def checkpointed(x):
    return jax.jit(jax.checkpoint(relu_net))(x)


@pytest.mark.parametrize(
    "fun",
    [relu_net, residual, scanned, einsum, pooled, attention, checkpointed],
    ids=lambda f: f.__name__,
)
def test_without_biases_relevance_is_conserved(fun):
    relevance = gallery.lrp(fun, gallery.epsilon(1e-9), stabilizer=1e-9)(X)
    np.testing.assert_allclose(relevance.sum(), fun(X).sum(), rtol=1e-3)
    assert relevance.shape == X.shape


def test_with_relu_and_without_biases_epsilon_is_gradient_times_input():
    """(Ancona et al. 2018, proposition 1), also through residual blocks, loops and jits."""
    for fun in (relu_net, residual, scanned, einsum, checkpointed):
        relevance = jax.jit(gallery.lrp(fun, gallery.epsilon(0.0), stabilizer=0.0))(X)
        want = X * jax.grad(lambda x, fun=fun: jnp.sum(fun(x) * 1.0))(X)
        np.testing.assert_allclose(relevance, want, rtol=2e-3, atol=1e-4)


BIASED = {
    "add": lambda x: x @ W + B[None],
    "reshaped": lambda x: x @ W + jnp.reshape(B, (1, -1)),
    "vmapped": jax.vmap(lambda x: W.T @ x + B),
    "einsum": lambda x: jnp.einsum("nd,dp->np", x, W) + B[None],
    "expanded": lambda x: (x @ W)[:, None, :] + B[None, None],
}


@pytest.mark.parametrize("name", BIASED)
def test_a_bias_is_found_however_it_is_added(name):
    """The rule w^2 shows it: its denominator has the bias squared."""
    fun = BIASED[name]
    got = gallery.lrp(fun, gallery.w_squared(0.0))(X, jnp.ones_like(fun(X)))
    want = (W**2 / (W**2).sum(0, keepdims=True).__add__(B[None] ** 2)).sum(1)
    np.testing.assert_allclose(got, jnp.broadcast_to(want[None], X.shape), rtol=1e-5)
    without = gallery.lrp(fun, gallery.w_squared(0.0, bias=False))(X, jnp.ones_like(fun(X)))
    np.testing.assert_allclose(without.sum(1), 4.0, rtol=1e-5)


def test_a_convolution_has_the_relevance_of_its_matrix():
    kernel, x = draw(3, 2, 3), draw(2, 2, 5)
    convolve = lambda x: lax.conv_general_dilated(x, kernel, (2,), [(1, 1)])
    matrix = jax.jacobian(lambda x: convolve(x[None])[0].ravel())(x[0]).reshape(9, 10).T
    dense = lambda x: x @ matrix
    for rule in (
        gallery.epsilon(),
        gallery.gamma(),
        gallery.alpha_beta(),
        gallery.z_plus(),
        gallery.w_squared(),
        gallery.z_box(-1.0, 1.0),
    ):
        got = gallery.lrp(convolve, rule)(x)
        np.testing.assert_allclose(
            got.reshape(2, 10), gallery.lrp(dense, rule)(x.reshape(2, 10)), rtol=1e-3, atol=1e-4
        )


def test_layers_have_the_first_rule_that_fits():
    def scoped(x):
        with jax.named_scope("first"):
            h = jax.nn.relu(x @ W)
        return h @ V

    by_number = gallery.lrp(scoped, [(0, gallery.flat()), (None, gallery.epsilon())])(X)
    by_scope = gallery.lrp(scoped, [("first", gallery.flat()), (-1, gallery.epsilon())])(X)
    np.testing.assert_allclose(by_number, by_scope)
    np.testing.assert_allclose(by_scope, by_scope[:, :1].repeat(4, 1), rtol=1e-5)
    for site in (2, "second"):
        with pytest.raises(fbp.InputError, match=r"matches nothing|no affine layer|no site"):
            gallery.lrp(scoped, [(site, gallery.flat())])(X)


def test_gelu_and_silu_hand_relevance_on():
    for activation in (jax.nn.gelu, jax.nn.silu, jnp.tanh, jax.nn.relu6, jax.nn.leaky_relu):
        got = gallery.lrp(lambda x, f=activation: f(x @ jnp.eye(4)))(X, jnp.ones_like(X))
        np.testing.assert_allclose(got, 1.0, rtol=1e-3)


def test_relevance_of_stabilized_sums():
    got = gallery.lrp(lambda x: jnp.mean(x @ jnp.eye(2), axis=1), stabilizer=0.5)(
        jnp.array([[1.0, 3.0]])
    )
    np.testing.assert_allclose(got, jnp.array([[1.0, 3.0]]) / 4.5 * 2.0, rtol=1e-5)


def test_relus_are_found_by_what_they_compute():
    for relu in (
        jax.nn.relu,
        lambda x: jnp.maximum(x, 0),
        lambda x: jnp.maximum(0.0, x),
        jax.jit(jax.nn.relu),
    ):
        got = gallery.deconvolution(lambda x, f=relu: -f(x))(X)
        np.testing.assert_allclose(got, 0.0)
    with pytest.raises(fbp.InputError, match="no site"):
        gallery.guided_backprop(jnp.tanh)(X)


def test_patching_a_linear_site_is_exact():
    def metric(x):
        with jax.named_scope("hidden"):
            h = jnp.tanh(x @ W)
        return jnp.sum(h @ V)

    got = gallery.attribution_patching(metric, "hidden")(X, 2 * X)
    np.testing.assert_allclose(got.sum(), metric(2 * X) - metric(X), rtol=1e-4)


def test_patching_reads_each_iteration_of_a_scan():
    def metric(x):
        return jnp.sum(lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, STACK)[0])

    got = gallery.attribution_patching(metric, fbp.at.primitive("tanh"))(X, 2 * X)
    assert got.shape == (3, 2, 4)
    np.testing.assert_allclose(got[-1].sum(), metric(2 * X) - metric(X), rtol=1e-4)
