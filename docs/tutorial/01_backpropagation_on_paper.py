"""Backpropagation on paper, and then in fbp.

For someone who has read one article on neural networks. You need a pocket calculator for the
first half. Run it with

    python docs/tutorial/01_backpropagation_on_paper.py

Every number in the comments is checked by an `assert` below it.
"""

from math import exp, isclose

import jax
import jax.numpy as jnp

import fbp

# ## 1. A network small enough to compute by hand
#
# Two inputs, two hidden neurons, one output: a 2-2-1 network. Each edge has a weight, each
# neuron has a bias.
#
#                 w11 = 0.4
#     x1 = 1 --------------------> h1        bias b1 = -0.3
#            \                 /      \
#             \ w12 = -0.6    /        \ v1 = 0.6
#              \             /          \
#               \           /            >---> y     bias c = 0.2,  wanted: t = 1
#                \         /            /
#                 \       / w21 = 0.2  / v2 = -0.5
#                  \     /            /
#     x2 = 2 --------------------> h2        bias b2 = 0.4
#                 w22 = 0.3
#
# A neuron adds what arrives on its edges, each times the edge's weight, and its bias. Then it
# squashes the sum into the range from 0 to 1 with the sigmoid function s(a) = 1 / (1 + e^-a).

x1, x2, t = 1.0, 2.0, 1.0
w11, w12, w21, w22 = 0.4, -0.6, 0.2, 0.3
b1, b2 = -0.3, 0.4
v1, v2, c = 0.6, -0.5, 0.2


def s(a):
    """Return the sigmoid of a."""
    return 1 / (1 + exp(-a))


def is_about(number, on_paper):
    """Check that the number agrees with the four digits on paper."""
    return isclose(number, on_paper, abs_tol=6e-5)


# ## 2. Feed the input forward

a1 = w11 * x1 + w21 * x2 + b1  # 0.4 + 0.4 - 0.3 = 0.5
a2 = w12 * x1 + w22 * x2 + b2  # -0.6 + 0.6 + 0.4 = 0.4
h1 = s(a1)  # 0.6225
h2 = s(a2)  # 0.5987
a3 = v1 * h1 + v2 * h2 + c  # 0.3735 - 0.2993 + 0.2 = 0.2741
y = s(a3)  # 0.5681

assert is_about(a1, 0.5)
assert is_about(a2, 0.4)
assert is_about(h1, 0.6225)
assert is_about(h2, 0.5987)
assert is_about(a3, 0.2741)
assert is_about(y, 0.5681)

# ## 3. Compare output and target
#
# The output should be 1, but it is 0.5681. The error is half the squared difference:
# E = (y - t)^2 / 2.

error = (y - t) ** 2 / 2  # 0.0933
assert is_about(error, 0.0933)
print(f"forward: h1 = {h1:.4f}, h2 = {h2:.4f}, y = {y:.4f}, error = {error:.4f}")

# ## 4. Carry the error back
#
# Which way must each weight move to make the error smaller, and how strongly does it act? The
# answer is the derivative of E by that weight. Backpropagation finds all of them in one walk
# from the output to the inputs. It needs two facts only:
#
# - the chain rule: what acts on E through z acts with dE/dz times its action on z;
# - the sigmoid's derivative, which its own value gives: s'(a) = s(a) (1 - s(a)).
#
# "d_a3" is short for dE/da3: how E changes when a3 does. It is called the cotangent of a3, or
# the error signal of the output neuron.

d_y = y - t  # -0.4319
d_a3 = d_y * y * (1 - y)  # -0.4319 * 0.2454 = -0.1060
assert is_about(d_y, -0.4319)
assert is_about(d_a3, -0.1060)

# The sum a3 = v1 h1 + v2 h2 + c passes the signal on. To a weight it goes times what the edge
# carried. To a neuron it goes times the edge's weight: the error travels the edges backward.

d_v1 = d_a3 * h1  # -0.0660
d_v2 = d_a3 * h2  # -0.0634
d_c = d_a3  # -0.1060
d_h1 = d_a3 * v1  # -0.0636
d_h2 = d_a3 * v2  # 0.0530
assert is_about(d_v1, -0.0660)
assert is_about(d_v2, -0.0634)
assert is_about(d_h1, -0.0636)
assert is_about(d_h2, 0.0530)

# The hidden neurons do the same again.

d_a1 = d_h1 * h1 * (1 - h1)  # -0.0149
d_a2 = d_h2 * h2 * (1 - h2)  # 0.0127
d_w11, d_w21, d_b1 = d_a1 * x1, d_a1 * x2, d_a1  # -0.0149, -0.0299, -0.0149
d_w12, d_w22, d_b2 = d_a2 * x1, d_a2 * x2, d_a2  # 0.0127, 0.0255, 0.0127
assert is_about(d_w11, -0.0149)
assert is_about(d_w21, -0.0299)
assert is_about(d_w12, 0.0127)
assert is_about(d_w22, 0.0255)
print(f"back:    d_w11 = {d_w11:.4f}, d_w22 = {d_w22:.4f}, d_v1 = {d_v1:.4f}, d_c = {d_c:.4f}")

# All nine derivatives, and no edge was used more than once each way. That is the whole idea.
#
# ## 5. The same network as a pure function
#
# For a computer the weights of a layer are a matrix: row i, column j is the edge from i to j.
# The function takes the parameters and an input, and changes nothing: a pure function.


def network(params, x):
    """Return the output of the 2-2-1 network."""
    hidden = jax.nn.sigmoid(x @ params["hidden"]["w"] + params["hidden"]["b"])
    return jax.nn.sigmoid(hidden @ params["output"]["w"] + params["output"]["b"])


def squared_error(params, x, t):
    """Half the squared difference of output and target."""
    return jnp.sum((network(params, x) - t) ** 2) / 2


params = {
    "hidden": {"w": jnp.array([[w11, w12], [w21, w22]]), "b": jnp.array([b1, b2])},
    "output": {"w": jnp.array([[v1], [v2]]), "b": jnp.array([c])},
}
x, target = jnp.array([x1, x2]), jnp.array([t])

assert is_about(squared_error(params, x, target), 0.0933)

# `fbp.grad(f)` is a new function. It takes what f takes, and gives the derivative of f by its
# first argument, in the same shape: here a dictionary like `params`.

grads = fbp.grad(squared_error)(params, x, target)

by_hand = {
    "hidden": {"w": jnp.array([[d_w11, d_w12], [d_w21, d_w22]]), "b": jnp.array([d_b1, d_b2])},
    "output": {"w": jnp.array([[d_v1], [d_v2]]), "b": jnp.array([d_c])},
}
print("\nfbp.grad gives")
for path, gradient in jax.tree_util.tree_leaves_with_path(grads):
    numbers = "  ".join(f"{d:.4f}" for d in gradient.ravel())
    print(f"  {jax.tree_util.keystr(path):16} {numbers}")
same = jax.tree.map(lambda a, b: jnp.allclose(a, b, rtol=1e-5), grads, by_hand)
assert all(jax.tree.leaves(same))

# ## 6. Adjust the parameters: gradient descent
#
# Each parameter moves against its derivative. How far is a number that you choose, the learning
# rate:  w <- w - learning_rate * dE/dw.


def adjust(params, grads, learning_rate):
    """One step of gradient descent."""
    return jax.tree.map(lambda w, d: w - learning_rate * d, params, grads)


print("\nthe error on this one example, step by step")
for learning_rate in (0.1, 1.0, 10.0):
    moved, errors = params, []
    for _ in range(6):
        loss, grads = fbp.value_and_grad(squared_error)(moved, x, target)
        moved = adjust(moved, grads, learning_rate)
        errors.append(float(loss))
    print(f"  learning rate {learning_rate:4}: " + "  ".join(f"{e:.4f}" for e in errors))
    assert errors == sorted(errors, reverse=True)

# ## 7. Watch XOR being learned
#
# XOR is 1 where exactly one of two inputs is 1. No single neuron can compute it, but a network
# with two hidden ones can. Nobody gives it the weights: it starts with random ones.

inputs = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
targets = jnp.array([[0.0], [1.0], [1.0], [0.0]])


def mean_error(params):
    """Return the error's mean over the four examples."""
    return jnp.mean(jax.vmap(squared_error, (None, 0, 0))(params, inputs, targets))


def draw(key):
    """Weights and biases at random."""
    keys = jax.random.split(key, 4)
    return {
        "hidden": {"w": jax.random.normal(keys[0], (2, 2)), "b": jax.random.normal(keys[1], (2,))},
        "output": {"w": jax.random.normal(keys[2], (2, 1)), "b": jax.random.normal(keys[3], (1,))},
    }


@jax.jit
def step(params, learning_rate):
    """Carry the error back, adjust the parameters: compiled once, run often."""
    loss, grads = fbp.value_and_grad(mean_error)(params)
    return adjust(params, grads, learning_rate), loss


params = draw(jax.random.key(2))
print("\nXOR, learning rate 2\n   step   error   outputs for 00, 01, 10, 11")
for i in range(3001):
    if i in (0, 10, 100, 300, 1000, 3000):
        outputs = jax.vmap(network, (None, 0))(params, inputs)[:, 0]
        row = "  ".join(f"{out:.2f}" for out in outputs)
        print(f"  {i:5}  {mean_error(params):.4f}   {row}")
    params, _ = step(params, 2.0)

learned = jax.vmap(network, (None, 0))(params, inputs).round()
assert jnp.array_equal(learned, targets)

# ## 8. It depends on where it starts, and on the learning rate
#
# Twenty random starts, trained side by side: `jax.vmap` turns a function of one key into a
# function of many. How many have learned XOR after 3000 steps? With a small rate they run out
# of steps. With a large one they jump about, or jam where the sigmoid is flat. And some starts
# end in a dip of the error from which every small step leads uphill.


def has_learned(key, learning_rate):
    """Train from one random start; whether each output ends on the right side."""
    params, _ = jax.lax.scan(lambda p, _: step(p, learning_rate), draw(key), length=3000)
    outputs = jax.vmap(network, (None, 0))(params, inputs)
    return jnp.all((outputs > 0.5) == (targets > 0.5))


keys = jax.random.split(jax.random.key(0), 20)
from_many_starts = jax.jit(jax.vmap(has_learned, (0, None)))
print("\nXOR from twenty random starts")
learned_by = {}
for learning_rate in (0.1, 1.0, 10.0, 100.0):
    learned_by[learning_rate] = int(from_many_starts(keys, learning_rate).sum())
    print(f"  learning rate {learning_rate:5}: {learned_by[learning_rate]:2} of 20 learn it")
assert learned_by[0.1] < learned_by[1.0] <= learned_by[10.0]
assert learned_by[100.0] < learned_by[10.0]

# Which learning rate is the right one? Every training run starts with that question, and
# 05_which_learning_rate.py answers it on real images. How fbp.grad finds the derivatives is
# the subject of 02_look_inside_a_gradient.py.
