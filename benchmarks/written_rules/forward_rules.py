"""Rules of custom_jvp, and values that a rule changes."""

import jax
import jax.numpy as jnp

from benchmarks.written_rules.row import Case, custom, normal, row

THRESHOLD = "https://docs.pytorch.org/docs/stable/generated/torch.nn.Softplus.html"
SIGN = "https://github.com/jax-ml/jax/issues/3213"
DOCS = "https://github.com/jax-ml/jax/issues/13048"
COPYSIGN = "https://github.com/chalk-lab/Mooncake.jl/issues/1195"
SECOND = "https://github.com/pytorch/pytorch/issues/192540"
DOUBLE = "https://github.com/pytorch/pytorch/issues/76185"
VALUES = "https://github.com/EnzymeAD/Enzyme.jl/blob/main/lib/EnzymeTestUtils/src/test_reverse.jl"
DETERMINISTIC = (
    "https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html"
)


def ruled(function, rule):
    """`jax.custom_jvp` of a function."""
    f = jax.custom_jvp(function)
    f.defjvp(rule)
    return f


@row("wave", "the sign of one derivative", SIGN, operand=1)
def sign_of_one_derivative(wrong):
    def wave(x, y):
        return jnp.sin(x) * y

    def rule(xs, ts):
        (x, y), (dx, dy) = xs, ts
        return wave(x, y), jnp.cos(x) * dx * y + (-1.0 if wrong else 1.0) * jnp.sin(x) * dy

    f = ruled(wave, rule)
    return Case(lambda x, y: jnp.sum(f(x, y)), (normal(0, 4), normal(1, 4)))


@row("copysign", "right for positive arguments only", COPYSIGN)
def right_for_positive_arguments_only(wrong):
    def copysign(x, y):
        return jnp.abs(x) * jnp.sign(y)

    def rule(xs, ts):
        (x, y), (dx, _) = xs, ts
        return copysign(x, y), dx * jnp.sign(y) * (1.0 if wrong else jnp.sign(x))

    f, y = ruled(copysign, rule), normal(1, 6)
    return Case(lambda x: jnp.sum(jnp.sin(f(x, y))), (normal(0, 6),))


@row("log1pexp", "one per cent too large", DOCS, x64=True)
def one_per_cent_too_large(wrong):
    def log1pexp(x):
        return jnp.log1p(jnp.exp(x))

    def rule(xs, ts):
        (x,), (t,) = xs, ts
        return log1pexp(x), (1.01 if wrong else 1.0) * t / (1 + jnp.exp(-x))

    f = ruled(log1pexp, rule)
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 5, dtype=jnp.float64),))


@row("cube", "its derivative has no derivative", SECOND, operand=None)
def tangent_rule_without_a_second_derivative(wrong):
    def cube(x):
        return x**3

    def rule(xs, ts):
        (x,), (t,) = xs, ts
        return cube(x), 3 * (jax.lax.stop_gradient(x) if wrong else x) ** 2 * t

    f = ruled(cube, rule)
    return Case(lambda x: jnp.sum(f(x)), (normal(0, 4),))


@row("saved", "keeps an intermediate value whose derivative is lost", DOUBLE, operand=None)
def saved_value_without_a_derivative(wrong):
    def saved(x):
        return jnp.exp(2 * x)

    def fwd(x):
        y = saved(x)
        return y, (jax.lax.stop_gradient(y) if wrong else y)

    f = custom(saved, lambda y, g: (2 * g * y,), fwd)
    return Case(lambda x: jnp.sum(jnp.sin(f(x))), (normal(0, 4),))


@row("gelu", "fwd returns another value than the function", VALUES, operand=None)
def forward_pass_returns_another_value(wrong):
    def gelu(x, power=3):
        return 0.5 * x * (1 + jnp.tanh(0.79788456 * (x + 0.044715 * x**power)))

    def smooth(x):
        return gelu(x)

    slope = jax.grad(lambda x: jnp.sum(gelu(x)))
    fwd = lambda x: (gelu(x, 2 if wrong else 3), x)
    f = custom(smooth, lambda x, g: (g * slope(x),), fwd)
    f.__wrapped__.__name__ = "gelu"
    return Case(lambda x: jnp.sum(f(x)), (normal(0, 6),))


@row("shifted", "the rule's value is another one", VALUES, operand=None)
def tangent_rule_returns_another_value(wrong):
    def shifted(x):
        return jnp.sin(x)

    f = ruled(
        shifted, lambda xs, ts: (jnp.sin(xs[0]) + (0.1 if wrong else 0.0), jnp.cos(xs[0]) * ts[0])
    )
    return Case(lambda x: jnp.sum(f(x)), (normal(0, 4),))


@row("noisy", "draws anew at every call", DETERMINISTIC, operand=0)
def gradient_differs_from_call_to_call(wrong):
    import numpy as np

    rng = np.random.default_rng(0)

    def host(x, g):
        noise = 1 + 1e-2 * rng.normal() if wrong else 1.0
        return np.asarray(g * np.cos(x) * noise, np.float32)

    def noisy(x):
        return jnp.sin(x)

    def bwd(kept, g):
        shape = jax.ShapeDtypeStruct(g.shape, g.dtype)
        return (jax.pure_callback(host, shape, kept[0], g, vmap_method="sequential"),)

    f = custom(noisy, bwd)
    return Case(lambda x: jnp.sum(f(x) ** 2), (normal(0, 4),))


@row("soft", "is linear above a threshold that is too low", THRESHOLD)
def threshold_is_too_low(wrong):
    def soft(x):
        return jnp.logaddexp(x, 0)

    def bwd(kept, g):
        (x,) = kept
        return (jnp.where(x > (2.0 if wrong else 20.0), g, g * jax.nn.sigmoid(x)),)

    f = custom(soft, bwd)
    return Case(lambda x: jnp.sum(f(x)), (jnp.array([-1.0, 3.0, 20.5, 30.0]),))
