"""Sites in models of other libraries, which are not edited: chosen, tapped, changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from fbp import at, edit, nn
from tests.support.clients import client

X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
KEY = jax.random.key(0)


def flax_linen():
    """A scan over blocks under remat, then a dense layer."""
    linen = client("flax.linen")

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x, _):
            return x + linen.Dense(4, name="inner")(jnp.tanh(x)), None

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            blocks = linen.scan(
                linen.remat(Block),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=3,
            )
            return linen.Dense(2, name="last")(blocks(name="blocks")(x, None)[0])

    model = Model()
    params = model.init(KEY, X)
    return lambda params, x: jnp.sum(model.apply(params, x) ** 2), params, 3


def flax_nnx():
    """Layers without scopes: lines and parameters alone say which is which."""
    nnx = client("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.inner = nnx.Linear(4, 4, rngs=rngs)
            self.last = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(jnp.tanh(self.inner(x)))

    graph, params, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)
    return lambda params, x: jnp.sum(nnx.merge(graph, params, rest)(x) ** 2), params, 1


def equinox():
    """Under filter_jit; scopes name kinds of layers only."""
    eqx = client("equinox")
    inner, last = (
        eqx.nn.Linear(4, n, key=key) for n, key in zip((4, 2), jax.random.split(KEY), strict=True)
    )
    params, static = eqx.partition({"inner": inner, "last": last}, eqx.is_inexact_array)

    @eqx.filter_jit
    def loss(params, x):
        layers = eqx.combine(params, static)
        y = jax.vmap(layers["inner"])(x)
        return jnp.sum(jax.vmap(layers["last"])(jnp.tanh(y)) ** 2)

    return loss, params, 1


def haiku():
    """Transformed functions."""
    hk = client("haiku")

    def model(x):
        return hk.Linear(2, name="last")(jnp.tanh(hk.Linear(4, name="inner")(x)))

    transformed = hk.without_apply_rng(hk.transform(model))
    params = transformed.init(KEY, X)
    return lambda params, x: jnp.sum(transformed.apply(params, x) ** 2), params, 1


def fbp_nn():
    """fbp's networks."""
    layer = nn.serial(nn.dense(4), nn.tanh(), nn.dense(2))
    params, _ = layer.init(KEY, (5, 4))
    return lambda params, x: jnp.sum(layer.apply(params, x) ** 2), params, 1


FRAMEWORKS = [flax_linen, flax_nnx, equinox, haiku, fbp_nn]
LAYERS = {fbp_nn: "0_dense"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_layer_of_a_parameter_is_chosen_tapped_and_changed(framework):
    loss, params, times = framework()
    layer = at.reads(f"*{LAYERS.get(framework, 'inner')}*") & at.primitive("dot_general")
    (site,) = fbp.sites(loss, params, X).choose(layer)
    assert "float32[4, 4]" in " ".join(site.ins)

    squares = lambda ct: jnp.sum(ct * ct)
    value, grads, tapped = jax.jit(
        fbp.value_and_grad(loss, taps={"inner": fbp.tap(layer, squares)})
    )(params, X)
    want_value, want = jax.jit(fbp.value_and_grad(loss))(params, X)
    np.testing.assert_array_equal(value, want_value)
    jax.tree.map(np.testing.assert_array_equal, grads, want)
    assert tapped["inner"].shape == ((times,) if times > 1 else ())
    assert np.all(tapped["inner"] > 0)

    stopped = fbp.RULES | edit.cotangent(layer, edit.stop())
    got = fbp.grad(loss, rules=stopped)(params, X)
    for path, leaf in jax.tree_util.tree_leaves_with_path(got):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        is_inner = LAYERS.get(framework, "inner") in name and leaf.ndim > times // 3 + 1
        assert np.any(leaf != 0) != is_inner, name


@pytest.mark.parametrize(
    ("framework", "scope"),
    [
        (flax_linen, "*/blocks/inner"),
        (haiku, "*inner"),
        (equinox, "eqx.nn.Linear"),
        (fbp_nn, "*0_dense"),
    ],
)
def test_a_scope_of_the_library_is_a_site(framework, scope):
    loss, params, _ = framework()
    sites = fbp.sites(loss, params, X).choose(scope)
    assert 1 <= len(sites) <= 2
    rules = fbp.RULES | edit.cotangent(scope, edit.scale(-1.0))
    got = fbp.grad(loss, rules=rules)(params, X)
    want = fbp.grad(loss)(params, X)
    differs = jax.tree.map(lambda a, b: bool(np.any(a != b)), got, want)
    assert any(jax.tree.leaves(differs))


def test_a_line_chooses_a_layer_of_nnx():
    loss, params, _ = flax_nnx()
    source = fbp.sites(loss, params, X).choose(at.primitive("tanh"))[0].source
    line = source.split(" (")[0].rsplit(":", 1)[0].rsplit("/", 1)[-1]
    (site,) = fbp.sites(loss, params, X).choose(at.line(line))
    assert line.startswith("test_sites_of_frameworks.py:")
    assert site.equations > 3
