"""Functions whose gradients are checked: a normalised MLP, a CNN, attention, an LSTM, ..."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.program import Program, normal, weight


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Layer normalisation."""
    centered = x - x.mean(-1, keepdims=True)
    return centered * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * scale[None]


def mlp(width: int, batch: int) -> Program:
    """Make an MLP with layer normalization and a sigmoid gate."""
    params = {
        "first": weight(0, width, width),
        "gate": weight(1, width, width),
        "last": weight(2, width, 4),
        "bias": normal(3, width, scale=0.1),
        "scale": 1 + normal(4, width, scale=0.1),
    }

    def loss(params, x):
        h = normalized(x @ params["first"] + params["bias"][None], params["scale"])
        h = jnp.tanh(h) * jax.nn.sigmoid(x @ params["gate"])
        return jnp.mean((h @ params["last"]) ** 2)

    return Program(loss, params, (normal(5, batch, width),))


def cnn() -> Program:
    """Two convolutions, a pooling and a dense layer."""
    params = {
        "first": weight(0, 3, 3, 1, 4),
        "second": weight(1, 3, 3, 4, 4),
        "head": weight(2, 36, 3),
    }

    def conv(x, w):
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def loss(params, x):
        h = jax.nn.relu(conv(x, params["first"]))
        h = lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        h = jax.nn.softplus(conv(h, params["second"]))
        return jnp.mean(jax.nn.log_softmax(h.reshape(h.shape[0], -1) @ params["head"])[:, 0])

    return Program(loss, params, (normal(3, 4, 6, 6, 1),))


def attention() -> Program:
    """One head of attention, masked."""
    params = {name: weight(i, 8, 8) for i, name in enumerate(("q", "k", "v", "out"))}
    causal = jnp.tril(jnp.ones((6, 6), bool))

    def loss(params, x):
        q, k, v = (x @ params[name] for name in ("q", "k", "v"))
        scores = jnp.einsum("bic,bjc->bij", q, k) / jnp.sqrt(8.0).astype(q.dtype)
        weights = jax.nn.softmax(jnp.where(causal[None], scores, -1e9), axis=-1)
        return jnp.mean((jnp.einsum("bij,bjc->bic", weights, v) @ params["out"]) ** 2)

    return Program(loss, params, (normal(5, 3, 6, 8),))


def lstm() -> Program:
    """Make an LSTM over eight steps, a scan."""
    params = {"w": weight(0, 10, 24), "b": normal(1, 24, scale=0.1)}

    def loss(params, xs):
        def step(state, x):
            h, c = state
            gates = jnp.concatenate([x, h], axis=-1) @ params["w"] + params["b"][None]
            i, f, o, u = jnp.split(gates, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(u)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((xs.shape[1], 6), xs.dtype)
        _, hs = lax.scan(step, (zero, zero), xs)
        return jnp.mean(hs**2)

    return Program(loss, params, (normal(2, 8, 3, 4),))


@jax.custom_vjp
def dense(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """Apply a dense layer with a custom rule."""
    return x @ w + b[None]


dense.defvjp(
    lambda x, w, b: (dense(x, w, b), (x, w)),
    lambda residuals, ct: (ct @ residuals[1].T, residuals[0].T @ ct, ct.sum(0)),
)


def custom() -> Program:
    """Two dense layers whose rule the user states."""
    params = {
        "w": weight(0, 5, 6),
        "b": normal(1, 6, scale=0.1),
        "u": weight(2, 6, 2),
        "c": normal(3, 2, scale=0.1),
    }

    def loss(params, x):
        h = jnp.tanh(dense(x, params["w"], params["b"]))
        return jnp.mean(jnp.exp(dense(h, params["u"], params["c"])))

    return Program(loss, params, (normal(4, 7, 5),))


def linear_algebra() -> Program:
    """Make the log-likelihood of a Gaussian: a factorization and a triangular solve."""
    params = {"l": normal(0, 5, 5, scale=0.3), "mean": normal(1, 5)}

    def loss(params, x):
        covariance = params["l"] @ params["l"].T + jnp.eye(5, dtype=x.dtype)
        factor = jnp.linalg.cholesky(covariance)
        z = lax.linalg.triangular_solve(
            factor, (x - params["mean"][None]).T, left_side=True, lower=True
        )
        return jnp.sum(z**2) / 2 + x.shape[0] * jnp.sum(jnp.log(jnp.diagonal(factor)))

    return Program(loss, params, (normal(2, 4, 5),))


SUBJECTS = {
    "mlp 32": lambda: mlp(32, 16),
    "mlp 256": lambda: mlp(256, 128),
    "cnn": cnn,
    "attention": attention,
    "lstm": lstm,
    "custom_vjp": custom,
    "linear algebra": linear_algebra,
}
