"""Rules within modules of Equinox and Flax."""
# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false
# The rules are written as users write them, without types.

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
from flax import linen  # pyright: ignore[reportMissingImports]

from benchmarks.written_rules.row import Case, custom, normal, row

EQUINOX = "https://docs.kidger.site/equinox/api/transformations/#equinox.filter_custom_vjp"
FLAX = "https://flax.readthedocs.io/en/latest/api_reference/flax.linen/transformations.html"
MLX = "https://github.com/ml-explore/mlx/issues/3220"


class Dense(eqx.Module):
    """A dense layer with an activation of the user's."""

    weight: jax.Array
    bias: jax.Array
    activation: str = eqx.field(static=True)
    name: str = "dense"

    def __call__(self, f, x):
        """Apply the layer, and f after it."""
        return f(x @ self.weight + self.bias[None])


@row("scaled", "Equinox: forgets the scale", EQUINOX)
def equinox_filtered_rule(wrong):
    @eqx.filter_custom_vjp
    def scaled(x, scale):
        return scale * jnp.sin(x)

    @scaled.def_fwd
    def fwd(_perturbed, x, scale):
        return scaled(x, scale), None

    @scaled.def_bwd
    def bwd(_, g, _perturbed, x, scale):
        return (1.0 if wrong else scale) * g * jnp.cos(x)

    return Case(lambda x: jnp.sum(scaled(x, 2.5) ** 2), (normal(0, 5),))


@row("swish", "Equinox: a term is missing, in a module", EQUINOX)
def equinox_module(wrong):
    def swish(x):
        return x * jax.nn.sigmoid(x)

    def bwd(kept, g):
        s = jax.nn.sigmoid(kept[0])
        return (g * (s if wrong else s + kept[0] * s * (1 - s)),)

    f = custom(swish, bwd)
    layer = Dense(normal(0, 3, 4), normal(1, 4), "swish")
    return Case(lambda layer, x: jnp.mean(layer(f, x) ** 2), (layer, normal(2, 5, 3)))


@row("softplus", "Equinox: the tangent's factor", EQUINOX)
def equinox_filtered_tangents(wrong):
    @eqx.filter_custom_jvp
    def softplus(x):
        return jnp.log1p(jnp.exp(x))

    @softplus.def_jvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        return softplus(x), t * jax.nn.sigmoid(x) * (1.05 if wrong else 1.0)

    return Case(lambda x: jnp.sum(softplus(x) ** 2), (normal(0, 5),))


class Net(linen.Module):
    """Two layers with an activation of the user's."""

    activation: object

    @linen.compact
    def __call__(self, x):
        """Apply both layers."""
        return linen.Dense(2)(self.activation(linen.Dense(4)(x)))


@row("mish", "Flax: the inner derivative is missing", FLAX)
def flax_module(wrong):
    def mish(x):
        return x * jnp.tanh(jax.nn.softplus(x))

    def bwd(kept, g):
        (x,) = kept
        t = jnp.tanh(jax.nn.softplus(x))
        inner = 1.0 if wrong else jax.nn.sigmoid(x)
        return (g * (t + x * (1 - t * t) * inner),)

    net = Net(custom(mish, bwd))
    x = normal(0, 5, 3)
    params = net.init(jax.random.key(0), x)
    return Case(lambda p, x: jnp.mean(net.apply(p, x) ** 2), (params, x))


@row("lora", "the cotangents of the two factors are those of each other", MLX, operand=1)
def factors_are_mixed_up(wrong):
    def lora(x, a, b):
        return x @ a @ b

    def bwd(kept, g):
        x, a, b = kept
        da, db = x.T @ (g @ b.T), (x @ a).T @ g
        return g @ (a @ b).T, db.T if wrong else da, db

    f = custom(lora, bwd)
    args = (normal(1, 4, 2), normal(2, 2, 4))
    x = normal(0, 6, 4)
    return Case(lambda w: jnp.sum(jnp.tanh(f(x, *w))), (args,))
