"""Find a wrong gradient: which rule, which line, which iteration.

    python docs/tutorial/06_find_a_wrong_gradient.py

03 said how to see that a gradient is wrong. This script breaks gradients in three ways and lets
`fbp.verify` say where: a custom rule, a rule of fbp's table within a loop, a NaN.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.test_util import check_grads

import fbp
from fbp.verify import Kind, check, ladders, trace_nonfinite

# ## 1. A custom rule with a mistake
#
# A layer whose author wrote its backward pass by hand. The factor 2 does not belong there.


@jax.custom_vjp
def dense(x, w, b):
    """Apply a layer that has a custom rule."""
    return x @ w + b[None]


def dense_forward(x, w, b):
    """Return the value, and what the backward pass needs."""
    return dense(x, w, b), (x, w)


def dense_backward(kept, ct):
    """Return the cotangents of x, w and b; that of b is doubled."""
    x, w = kept
    return ct @ w.T, x.T @ ct, 2 * jnp.sum(ct, axis=0)


dense.defvjp(dense_forward, dense_backward)


def loss_fn(params, x):
    """Return the mean square of 1024 units."""
    return jnp.mean(jnp.tanh(dense(x, params["w"], params["b"])) ** 2)


keys = jax.random.split(jax.random.key(0), 3)
params = {"w": jax.random.normal(keys[0], (32, 1024)) / 32**0.5, "b": jnp.zeros(1024)}
x = jax.random.normal(keys[1], (256, 32))

# ## 2. The usual check sees nothing
#
# `jax.test_util.check_grads` compares one number, the slope along one random direction, with a
# finite difference. The gradient of a mean over many units has small entries, and the mistake in
# them is smaller than the tolerance, 0.002. No error is raised.

check_grads(lambda params: loss_fn(params, x), (params,), order=1, modes=["rev"])
print("check_grads: passes")

# ## 3. The check of fbp
#
# There is no tolerance to choose: what rounding may do is measured. Every custom rule is compared
# with the derivative of the function that it belongs to, entry by entry, and where they differ
# the function's own values decide.

report = check(loss_fn, params, x)
print(f"\n{report}\n")
assert not report.ok
(finding,) = report.failures
assert finding.kind == Kind.WRONG_CUSTOM_RULE
assert finding.operand == 2  # the bias
assert "06_find_a_wrong_gradient.py" in finding.source
assert abs(finding.got / finding.expected - 2) < 1e-6

# In a notebook, a report shows itself.

report

# Both leaves are "ok": fbp and `jax.grad` obey the same wrong rule, and agree. That is why the
# rules themselves are checked. A rule that deviates on purpose, like a straight-through
# estimator, is declared, and is then said but no failure.

declared = check(loss_fn, params, x, declared=[dense])
assert declared.ok
assert [f.kind for f in declared.findings] == [Kind.DECLARED]

# ## 4. The picture
#
# The function's values know the slope, whatever a rule says. A ladder shows how far difference
# quotients lie from the gradient: with ever smaller steps they come close to that of `w` until
# rounding takes over, and they stay away from that of `b`.

by_name = {ladder.leaf: ladder for ladder in ladders(loss_fn, params, x)}
b, w = by_name["args[0]['b']"], by_name["args[0]['w']"]
print("step        distance from the gradient of b    of w")
for i in range(0, len(w.steps), 4):
    print(f"{w.steps[i]:.1e}     {b.errors[i]:.1e}                            {w.errors[i]:.1e}")
assert w.limit < 1e-8 < b.limit

# `fbp.verify.write_page("check.html", report, by_name.values())` draws it. So does the command
# line, for a function of your own:
#
#     fbp check package.module:loss_fn --args package.module:point --html check.html
#
# where `point` is the tuple of arguments, or a function that makes it. It exits with 0 if the
# gradient is right, 1 if it is wrong, 2 if it could not be checked. In a test, after
# `pip install fbp-jax`:
#
#     def test_loss(check_gradients):
#         check_gradients(loss_fn, params, x)
#
# ## 5. A wrong rule in a loop
#
# Somebody saves a cosine: the derivative of sin as 1 - x^2 / 2. For small x that is close. Which
# equation is to blame, and when? Every rule's cotangents are compared with those of JAX while the
# backward pass runs, within the loop too.


def recurrent(params, xs):
    """Run a recurrent network over xs and sum the sines."""

    def step(h, x):
        h = jnp.tanh(h @ params["w"] + x)
        return h, jnp.sum(jnp.sin(h))

    _, ys = jax.lax.scan(step, jnp.zeros(4), xs)
    return jnp.mean(ys)


cheap = fbp.rule.derivative(jax.lax.sin_p, lambda x, _: 1 - x * x / 2)
point = {"w": jax.random.normal(keys[2], (4, 4))}, jnp.linspace(0, 1, 24).reshape(6, 4)
report = check(recurrent, *point, rules=fbp.RULES | cheap)
(rule,) = (f for f in report.failures if f.kind == Kind.WRONG_RULE)
print(f"\n{rule}")
assert rule.primitive == "sin"
assert len(rule.iteration) == 1
assert "step" in rule.source

# The iteration is the one where the error is largest, and the line is that of the sine.
#
# ## 6. A NaN
#
# The square root where it has one, else 0. The value is right, the gradient is NaN: `where` leaves
# out the value of the other branch, and multiplies its infinite derivative by zero.


def roots(x):
    """Sum the roots of the positive entries."""
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))


assert jnp.isnan(fbp.grad(roots)(jnp.array([0.0, 1.0]))).any()
report = trace_nonfinite(roots, jnp.array([0.0, 1.0]))
print(f"\n{report.findings[0]}")
assert report.findings[0].kind == Kind.NON_FINITE
assert "double where" in report.findings[0].message


def mended(x):
    """Sum them after the advice of the report."""
    positive = x > 0
    return jnp.sum(jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0))


report = trace_nonfinite(mended, jnp.array([0.0, 1.0]))
print(f"\n{report}")
assert report.ok

# ## 7. A kernel
#
# A Pallas kernel has no derivative but the one that its author states. Its rule is compared, entry
# by entry, with the derivative of the program that Pallas' interpreter runs in the kernel's place,
# in float64 too; or, with `reference=`, with a plain function, which is the truth then.


def sine_kernel(x, out):
    """Compute the sine of a block."""
    out[...] = jnp.sin(x[...])


@jax.custom_vjp
def sine(x):
    """Compute the sine by a kernel."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pl.pallas_call(sine_kernel, out_shape=shape, interpret=True)(x)


sine.defvjp(lambda x: (sine(x), x), lambda x, ct: (1.1 * ct * jnp.cos(x),))
x = jnp.linspace(0, 1, 4)
report = check(lambda x: jnp.sum(sine(x) ** 2), x)
print(f"\n{report}")
assert [f.kind for f in report.failures] == [Kind.WRONG_CUSTOM_RULE]
report = check(lambda x: jnp.sum(sine(x)), x, reference=lambda x: jnp.sum(jnp.sin(x)))
assert Kind.WRONG_GRADIENT in [f.kind for f in report.failures]

# ## 8. A rule that loses digits
#
# Right on paper, and in float64; but it adds up 4,096 terms in bfloat16, which ends at 256. The
# bar is what plain differentiation does in the same precision, so the rule cannot hide behind it.


@jax.custom_vjp
def scaled(w, x):
    """Each entry of x times w."""
    return w * x


def scaled_backward(kept, ct):
    """Return the cotangents, the sum in bfloat16."""
    w, x = kept
    terms = (ct * x).astype(jnp.bfloat16)
    total, _ = jax.lax.scan(lambda a, t: (a + t, None), jnp.bfloat16(0), terms)
    return total.astype(w.dtype), ct * w


scaled.defvjp(lambda w, x: (w * x, (w, x)), scaled_backward)
report = check(lambda w: jnp.mean(scaled(w, jnp.ones(4096))), jnp.float32(2))
assert "loses digits" in report.failures[0].message
print(f"\n{report.failures[0]}")

# What each verdict proves, and what it does not, is in docs/verification.md.
