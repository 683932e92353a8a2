"""Change the backward pass of a network that somebody else wrote.

    python docs/tutorial/08_change_the_backward_pass.py

02 looked into a gradient, 06 found where one goes wrong. Here the backward pass is opened on
purpose: read at a layer, changed at a layer, replaced by methods that were published, and the
network stays as it is.
"""

import jax
import jax.numpy as jnp

import fbp
from fbp import gallery, nn

# ## 1. A network, and its sites
#
# Take it that this network came from elsewhere. `fbp.sites` prints what there is to choose from:
# scopes, functions, parameters, lines.

network = nn.serial(nn.dense(8), nn.relu(), nn.dense(8), nn.relu(), nn.dense(3))
params, _ = network.init(jax.random.key(0), (-1, 4))
x = jax.random.normal(jax.random.key(1), (16, 4))
y = jax.nn.one_hot(jnp.argmax(x[:, :3], axis=1), 3)


def cross_entropy(outputs, y):
    """Return the mean over the examples."""
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(outputs), axis=-1))


def loss(params, x, y):
    """Return the loss of a batch."""
    return cross_entropy(network.apply(params, x), y)


print(fbp.sites(loss, params, x, y))

# ## 2. Read
#
# A tap reads the cotangent at a site: here its norm where the last layer begins.

last = fbp.at.reads("4_dense/kernel")
norm = fbp.tap(last, lambda ct: jnp.sqrt(jnp.sum(ct**2)))
value, grads, taps = fbp.value_and_grad(loss, taps={"last": norm})(params, x, y)
print(f"\nloss {value:.3f}, norm of the cotangent at the last layer {taps['last']:.4f}")

# ## 3. Change
#
# An edit is part of a table of rules. This one stops the error below the last layer: of all leaves
# only the last layer's have a gradient then.

stopped = fbp.RULES | fbp.edit.cotangent(last, fbp.edit.stop(), of="inputs")
print(stopped)
above = fbp.grad(loss, rules=stopped)(params, x, y)
assert jnp.all(above["0_dense"]["kernel"] == 0)

# A selector that chooses nothing is an error, which names the nearest that would.

try:
    nothing = fbp.RULES | fbp.edit.cotangent("5_dense", fbp.edit.stop())
    fbp.grad(loss, rules=nothing)(params, x, y)
except fbp.InputError as error:
    print(f"\n{error}")

# ## 4. Published methods
#
# Feedback alignment: the error travels back through other weights. They are drawn as the network
# draws its own. The angle to the true gradient is that of chance at first; how training brings it
# down is measured in `experiments/feedback`.

feedback, _ = network.init(jax.random.key(2), (-1, 4))
aligned = jax.jit(fbp.grad(loss, rules=fbp.RULES | gallery.feedback_alignment(feedback)))
plain = jax.jit(fbp.grad(loss))


def angle(params):
    """Return the angle of the two gradients in the first layer, in degrees."""
    both = (gradient(params, x, y)["0_dense"]["kernel"] for gradient in (aligned, plain))
    return float(gallery.angles(*both))


trained = params
for _ in range(200):
    trained = jax.tree.map(lambda w, g: w - 0.5 * g, trained, aligned(trained, x, y))
print(f"\nfeedback alignment: the loss falls from {value:.3f} to {loss(trained, x, y):.3f}")
print(f"angle to the gradient in the first layer, before training: {angle(params):.0f} degrees")
assert loss(trained, x, y) < 0.5 * value

# ## 5. Each example's gradient
#
# One backward pass has what the gradients of single examples are made of: their norms, their
# variance, the sum of clipped ones that DP-SGD takes, without writing any of them down.

norms = gallery.per_example_norms(loss)(trained, x, y)
clipped = gallery.clipped_gradient(loss, limit=1.0)(trained, x, y)
noise = gallery.gradient_noise_scale(loss)(params, x, y)
print(f"\nnorms of the examples' gradients: {norms.min():.3f} to {norms.max():.3f}")
print(f"gradient noise scale before training: {noise.scale:.1f} examples")
assert jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(clipped))) <= len(x)

# ## 6. What did it look at?
#
# Relevance: the logit of the answer, shared out among the inputs. By these rules the bias takes a
# part too; the rest adds up to the logit.

answer = lambda x: jnp.max(network.apply(trained, x), axis=1)
relevance = gallery.lrp(answer, [(0, gallery.w_squared()), (None, gallery.epsilon())])(x)
print(f"\nlogit {answer(x)[0]:.3f}: relevance of the inputs {jnp.round(relevance[0], 2)}")

# `docs/gallery.md` has all methods, with their equations and conventions.
