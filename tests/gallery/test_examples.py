"""Gradients of single examples, and what follows from them, against a loop over the examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from fbp import gallery

N = 3


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape))


def shared(p, x):
    """One layer applied twice, once transposed: products that cannot be joined."""
    h = jnp.tanh(x @ p["w"])
    return jnp.tanh(h @ p["w"] @ p["v"]) @ p["v"].T


def scanned(p, x):
    """A stack of layers, a layer shared by all iterations, and a learned initial state."""

    def step(h, w):
        return jnp.tanh(h @ w + x @ p["v"]) * p["s"], None

    return lax.scan(step, jnp.broadcast_to(p["h0"], x.shape), p["stack"])[0]


def looped(p, x):
    """A while_loop with a dynamic end."""

    def step(state):
        return state[0] + 1, jnp.sin(state[1] @ p["w"])

    return lax.while_loop(lambda s: s[0] < jnp.where(x.ravel()[0] > 9, 3, 2), step, (0, x))[1]


def branched(p, x):
    """A branch, checkpoint and einsum inside jit."""
    h = lax.cond(x.ravel()[0] > 0, lambda w: x @ w, lambda w: x @ w.T, p["w"])
    return jax.checkpoint(lambda h: jnp.einsum("...d,dhk->...hk", h, p["heads"]).sum(-1))(h)


def returned(p, x):
    """Parameters that a branch and a loop return as they are."""
    w = lax.cond(x.ravel()[0] > 0, lambda w: w, lambda w: -w, p["w"])
    rows = lax.scan(lambda s, w: (s + jnp.sum(w), w), p["s"], p["stack"])
    return x @ w @ rows[1][0] + rows[0]


def embedded(p, x):
    """An embedding tied to the output layer."""
    h = jnp.take(p["table"], jnp.argmax(x, axis=-1), axis=0)
    return jnp.tanh(h) @ p["table"].T


def convolved(p, x):
    """Groups, strides, holes in the kernel and in the input, uneven padding."""
    y = lax.conv_general_dilated(
        x[..., None].repeat(4, -1),
        p["kernel"],
        (2,),
        [(1, 2)],
        lhs_dilation=(2,),
        rhs_dilation=(2,),
        dimension_numbers=("NWC", "OIW", "NWC"),
        feature_group_count=2,
    )
    return jnp.tanh(y + p["b"][None, None, :]).reshape(y.shape[0], -1)


def other_ways(p, x):
    """A weight of another kind, a masked weight, one leaf read in two ways, one not at all."""
    h = x @ (p["w"] * jnp.tril(jnp.ones((4, 4)))) + jnp.cumsum(p["s4"])[None]
    return h * p["s4"][None] + jnp.exp(p["s"])


PARAMS = {
    "w": draw(4, 4),
    "v": draw(4, 4, seed=1),
    "s": draw(),
    "s4": draw(4),
    "h0": draw(4, seed=2),
    "stack": draw(3, 4, 4),
    "heads": draw(4, 2, 3),
    "table": draw(4, 4, seed=3),
    "kernel": draw(6, 2, 3),
    "b": draw(6),
    "unused": draw(2),
}


def batch(fun):
    return draw(N, 5, 4) if fun in (shared, scanned) else draw(N, 4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "fun",
    [shared, scanned, looped, branched, returned, embedded, convolved, other_ways],
    ids=lambda f: f.__name__,
)
def test_statistics_are_those_of_a_loop_over_examples(fun):
    params = jax.tree.map(lambda x: x.astype("float64"), PARAMS)
    x = batch(fun).astype("float64")
    weights = jnp.array([1.0, -2.0, 0.5])

    def loss(params, x):
        y = fun(params, x)
        return jnp.mean(jnp.sum(y**2, axis=tuple(range(1, y.ndim))))

    @jax.jit
    def measured(params, x):
        batched = gallery.examples(loss, params, x)
        return (
            batched.losses,
            batched.gradients(),
            batched.sum(weights),
            batched.squared_norms(),
            batched.sum_of_squares(),
        )

    @jax.jit
    def looped_over(params, x):
        pairs = [fbp.value_and_grad(loss)(params, x[i : i + 1]) for i in range(N)]
        losses, each = jax.tree.map(lambda *xs: jnp.stack(xs), *pairs)
        squares = jax.tree.map(lambda g: g**2, each)
        return (
            losses,
            each,
            jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), each),
            jax.tree.map(lambda g: g.reshape(N, -1).sum(1), squares),
            jax.tree.map(lambda g: g.sum(0), squares),
        )

    got, want = measured(params, x), looped_over(params, x)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-12), got, want)


def test_a_custom_rule_is_in_force():
    @jax.custom_vjp
    def doubled(w, x):
        return x * w[None]

    doubled.defvjp(lambda w, x: (x * w[None], x), lambda x, ct: ((2 * ct * x)[0], None))
    loss = lambda w, x: jnp.sum(doubled(w, x))
    np.testing.assert_allclose(
        gallery.per_example_gradients(loss)(jnp.ones(1), jnp.array([[1.0], [3.0]])), [[2.0], [6.0]]
    )


def test_mean_and_sum_of_losses_give_the_same_gradients():
    x, w = draw(3, 4).astype("float32"), draw(4).astype("float32")
    of = lambda reduce: gallery.per_example_norms(lambda w, x: reduce((x @ w) ** 2))(w, x)
    np.testing.assert_allclose(of(jnp.mean), of(jnp.sum), rtol=1e-6)


def test_norms_by_leaf_are_parts_of_the_norm():
    params = {"w": draw(4).astype("float32"), "b": jnp.float32(1.0)}
    loss = lambda p, x: jnp.mean(jnp.sin(x @ p["w"] + p["b"]))
    x = draw(3, 4).astype("float32")
    parts = gallery.per_example_norms(loss, by_leaf=True)(params, x)
    whole = gallery.per_example_norms(loss)(params, x)
    np.testing.assert_allclose(jnp.sqrt(parts["w"] ** 2 + parts["b"] ** 2), whole, rtol=1e-6)


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(fbp.InputError, match="first axes"):
        gallery.examples(lambda w, x, y: jnp.sum(w), jnp.ones(()), jnp.ones(3), jnp.ones(2))


def test_what_cannot_be_followed_is_refused():
    mesh = jax.make_mesh((2,), ("d",))
    spec = jax.sharding.PartitionSpec()
    sharded = jax.shard_map(lambda w, x: x @ w, mesh=mesh, in_specs=spec, out_specs=spec)
    with pytest.raises(fbp.InputError, match=r"shard_map at .*test_examples\.py"):
        gallery.examples(lambda w, x: jnp.sum(sharded(w, x)), jnp.ones(3), jnp.ones((2, 3)))
    with pytest.raises(fbp.InputError, match="itself"):
        gallery.examples(lambda w, x: w[0], jnp.ones((1,))[None], jnp.ones((2, 3)))


def test_the_noise_of_dp_sgd_has_its_deviation():
    loss = lambda w, x: jnp.mean(x @ w)
    step = gallery.dp_sgd_gradient(loss, 2.0, 3.0)
    draws = jax.vmap(lambda k: step(k, jnp.zeros(1), jnp.array([[1.0], [3.0]])))(
        jax.random.split(jax.random.key(0), 10_000)
    )
    np.testing.assert_allclose(draws.mean(), (1.0 + 2.0) / 2, atol=4 * 3.0 / 100)
    np.testing.assert_allclose(draws.std(), 3.0, rtol=0.05)


def test_the_noise_scale_of_a_leaf_is_that_of_its_part():
    params = {"w": draw(4).astype("float32"), "v": draw(4, seed=1).astype("float32")}
    loss = lambda p, x: jnp.mean(jnp.sin(x @ p["w"]) + jnp.cos(x @ p["v"]))
    x = draw(6, 4).astype("float32")
    by_leaf = gallery.gradient_noise_scale(loss, by_leaf=True)(params, x)
    alone = gallery.gradient_noise_scale(lambda w, x: loss(params | {"w": w}, x))(params["w"], x)
    np.testing.assert_allclose(by_leaf["w"].trace, alone.trace, rtol=1e-5)
    np.testing.assert_allclose(by_leaf["w"].scale, alone.scale, rtol=1e-4)


def test_hutchinsons_diagonal_is_unbiased():
    matrix = draw(3, 3)
    matrix = (matrix + matrix.T).astype("float32")
    fun = lambda x: x @ matrix @ x / 2
    draws = jax.vmap(lambda k: gallery.hutchinson_diagonal(fun)(k, jnp.ones(3)))(
        jax.random.split(jax.random.key(0), 10_000)
    )
    standard_error = draws.std(0) / 100
    assert np.all(np.abs(draws.mean(0) - jnp.diag(matrix)) <= 4 * standard_error + 1e-6)


def by_hand_kfac(x, kernel, approximation):
    """Of one convolution y = sum over window and features, with loss sum y^2 / 2."""
    n, length, _ = x.shape
    at = [x[:, i : i + 3].transpose(0, 2, 1).reshape(n, -1) for i in range(length - 2)]
    windows = np.stack(at, 1)
    t = windows.shape[1]
    if approximation == "reduce":
        mean = windows.mean(1)
        # sum over t, c of one column a position: each column has a one at (t, c)
        return mean.T @ mean / n, t * np.eye(kernel.shape[0])
    return np.einsum("nti,ntj->ij", windows, windows) / n, np.eye(kernel.shape[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("approximation", ["expand", "reduce"])
def test_kfac_of_a_convolution_is_that_of_its_windows(approximation):
    x, kernel = draw(2, 6, 2).astype("float64"), draw(3, 2, 3).astype("float64")

    def network(kernel, x):
        return lax.conv_general_dilated(
            x, kernel, (1,), "VALID", dimension_numbers=("NWC", "OIW", "NWC")
        )

    loss = lambda y, target: jnp.sum((y - target) ** 2) / 2
    target = jnp.zeros((2, 4, 3))
    (got,) = gallery.kfac_factors(network, loss, approximation)(kernel, x, target)[""]
    want = by_hand_kfac(np.asarray(x), kernel, approximation)
    np.testing.assert_allclose(got.inputs[0], want[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got.cotangents[0], want[1], rtol=1e-12, atol=1e-12)


def test_empirical_kfac_takes_the_gradient():
    x, y = draw(5, 3).astype("float32"), draw(5, 2).astype("float32")
    w = draw(3, 2).astype("float32")
    loss = lambda z, y: jnp.mean(jnp.sum((z - y) ** 2, -1)) / 2
    factors = gallery.kfac_factors(lambda w, x: x @ w, loss, fisher="empirical")(w, x, y)
    ct = x @ w - y
    np.testing.assert_allclose(factors[""][0].cotangents[0], ct.T @ ct / 5, rtol=1e-5)
    with pytest.raises(fbp.InputError, match="expand, reduce"):
        gallery.kfac_factors(lambda w, x: x @ w, loss, "kfac")  # pyright: ignore
