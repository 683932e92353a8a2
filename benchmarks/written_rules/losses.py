"""Loss kernels that compute their gradient in the forward pass, and scale it in the backward."""

import jax
import jax.numpy as jnp

from benchmarks.written_rules.row import Case, custom, normal, row

LIGER = "https://github.com/linkedin/Liger-Kernel/issues/968"
LIGER_NONE = "https://github.com/linkedin/Liger-Kernel/pull/1298"
UNSLOTH = "https://github.com/unslothai/unsloth-zoo/pull/434"
DIRECTML = "https://github.com/microsoft/DirectML/issues/740"
AUTOGRAD = "https://github.com/HIPS/autograd/pull/412"
CLIPPING = "https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html"
SCALING = "https://arxiv.org/abs/1710.03740"


def cross_entropy(logits, labels):
    """Return the mean over the rows."""
    picked = jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - picked)


def slopes(logits, labels):
    """Return the derivative of each row's loss."""
    return jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)


@row("fused_loss", "forgets the cotangent of a scalar loss", LIGER, operand=0)
def scalar_loss_forgets_its_cotangent(wrong):
    def fused_loss(hidden, head, labels):
        return cross_entropy(hidden @ head, labels)

    def bwd(kept, g):
        hidden, head, labels = kept
        d = slopes(hidden @ head, labels) / hidden.shape[0]
        return (d @ head.T) * (1.0 if wrong else g), hidden.T @ d * g, None

    fused = custom(fused_loss, bwd)
    labels = jnp.arange(8) % 7
    return Case(lambda h, w: fused(jnp.tanh(h), w, labels), (normal(0, 8, 5), normal(1, 5, 7)))


@row("token_loss", "takes the first row's cotangent for all rows", LIGER_NONE)
def per_token_loss_takes_one_cotangent(wrong):
    def token_loss(logits, labels):
        picked = jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]
        return jax.nn.logsumexp(logits, -1) - picked

    def bwd(kept, g):
        return slopes(*kept) * (g[0] if wrong else g[:, None]), None

    loss, labels, weights = custom(token_loss, bwd), jnp.arange(6) % 5, normal(1, 6)
    return Case(lambda x: jnp.sum(weights * loss(x, labels)), (normal(0, 6, 5),))


@row("scaled_loss", "expects a cotangent of the loss scale alone", UNSLOTH)
def cotangent_is_normalised_away(wrong):
    def scaled_loss(x, y):
        return jnp.mean((x - y) ** 2)

    def bwd(kept, g):
        x, y = kept
        d = 2 * (x - y) / x.size
        return (d * (jnp.sign(g) if wrong else g), None)

    loss, target = custom(scaled_loss, bwd), normal(1, 4, 3)
    return Case(lambda x: 128.0 * loss(jnp.sin(x), target), (normal(0, 4, 3),))


@row("ignoring_loss", "ignored rows count in the mean of the backward pass only", LIGER)
def ignored_rows_are_counted(wrong):
    def ignoring_loss(logits, labels):
        valid = labels >= 0
        safe = jnp.where(valid, labels, 0)
        picked = jnp.take_along_axis(logits, safe[:, None], -1)[:, 0]
        total = jnp.sum(jnp.where(valid, jax.nn.logsumexp(logits, -1) - picked, 0))
        return total / jnp.maximum(valid.sum(), 1).astype(logits.dtype)

    def bwd(kept, g):
        logits, labels = kept
        valid = labels >= 0
        count = labels.size if wrong else jnp.maximum(valid.sum(), 1)
        d = slopes(logits, jnp.where(valid, labels, 0)) * valid[:, None]
        return g * d / jnp.asarray(count, logits.dtype), None

    loss, labels = custom(ignoring_loss, bwd), jnp.array([0, -1, 2, 1, -1, 3])
    return Case(lambda x: loss(x, labels), (normal(0, 6, 4),))


@row("weighted_loss", "gives zero for a loss that is not reduced", DIRECTML)
def unreduced_loss_gives_zero(wrong):
    def weighted_loss(x):
        return jnp.log1p(jnp.exp(-x))

    def bwd(kept, g):
        (x,) = kept
        return (-g * jax.nn.sigmoid(-x) * (0.0 if wrong else 1.0),)

    loss, weights = custom(weighted_loss, bwd), normal(1, 9)
    return Case(lambda x: jnp.mean(weights * loss(x)), (normal(0, 9),))


@row("huber", "leaves the linear part without the clip", CLIPPING)
def huber_is_quadratic_throughout(wrong):
    def huber(r):
        size = jnp.abs(r)
        return jnp.sum(jnp.where(size < 1, 0.5 * r * r, size - 0.5))

    def bwd(kept, g):
        (r,) = kept
        return (g * (r if wrong else jnp.clip(r, -1, 1)),)

    loss = custom(huber, bwd)
    return Case(lambda x: loss(2 * x), (normal(0, 12),))


@row("gaussian", "the covariance's cotangent has the wrong sign", AUTOGRAD, operand=1, x64=True)
def covariance_has_the_wrong_sign(wrong):
    def gaussian(x, covariance):
        solved = jnp.linalg.solve(covariance, x[:, None])[:, 0]
        return 0.5 * (x @ solved + jnp.linalg.slogdet(covariance)[1])

    def bwd(kept, g):
        x, covariance = kept
        inverse = jnp.linalg.inv(covariance)
        solved = inverse @ x
        d = 0.5 * (inverse.T - jnp.outer(solved, solved))
        return g * 0.5 * (inverse + inverse.T) @ x, (-g if wrong else g) * d

    density = custom(gaussian, bwd)
    a, x = normal(0, 4, 4, dtype=jnp.float64), normal(1, 4, dtype=jnp.float64)
    return Case(lambda x, a: density(x, a @ a.T + 4 * jnp.eye(4)), (x, a))


@row("guarded", "clips the cotangent at ten", CLIPPING)
def cotangent_is_clipped(wrong):
    def guarded(x):
        return jnp.sin(x)

    def bwd(kept, g):
        return ((jnp.clip(g, -10, 10) if wrong else g) * jnp.cos(kept[0]),)

    f = custom(guarded, bwd)
    return Case(lambda x: jnp.sum(100.3 * f(x) ** 2), (normal(0, 6),))


@row("half", "casts the cotangent to float16 and back", SCALING, x64=True)
def cotangent_passes_through_float16(wrong):
    def half(x):
        return jnp.sin(x)

    def bwd(kept, g):
        return ((g.astype(jnp.float16).astype(g.dtype) if wrong else g) * jnp.cos(kept[0]),)

    f = custom(half, bwd)
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 6, dtype=jnp.float64),))
