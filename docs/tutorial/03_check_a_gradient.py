"""Check a gradient: against another implementation, and by finite differences.

    python docs/tutorial/03_check_a_gradient.py

A wrong gradient raises no error. Training just goes worse. So a gradient wants checking, and the
question is what to check it with, and what "the same" means for floating-point numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np

import fbp
from fbp.verify import compare_with_jax, ulp_distance

# ## 1. Units in the last place
#
# A float32 has 24 binary digits. Next to 1 the numbers lie 2^-23, about 1.2e-7, apart; next to
# 1000 they lie 6.1e-5 apart. That spacing is one unit in the last place, an ULP. Differences in
# ULPs mean the same at any size: below 1 no number lies between, a few are rounding, millions
# are a mistake.

for number in (1.0, 1000.0):
    here = np.float32(number)
    neighbour = np.nextafter(here, np.float32(np.inf))
    ulps = ulp_distance(here, neighbour)
    print(f"next to {number:6}: spacing {neighbour - here:.1e}, which is {ulps} ULP")
    assert ulps == 1.0

# ## 2. fbp beside jax.grad
#
# fbp's reverse mode shares no rule with JAX's. Where both agree, two derivations agree.


def loss_fn(params, x, y):
    """Mean squared error of a small network."""
    for layer in params["hidden"]:
        x = jnp.tanh(x @ layer["w"])
    return jnp.mean((x @ params["out"] - y) ** 2)


keys = jax.random.split(jax.random.key(0), 5)
params = {
    "hidden": [{"w": jax.random.normal(k, (16, 16)) / 4} for k in keys[:2]],
    "out": jax.random.normal(keys[2], (16, 1)) / 4,
}
x, y = jax.random.normal(keys[3], (32, 16)), jax.random.normal(keys[4], (32, 1))

agreement = compare_with_jax(loss_fn, params, x, y)
print(f"\n{agreement}")
assert agreement.agrees
assert agreement.max_ulps < 16

# ## 3. What a mistake looks like
#
# Suppose that somebody writes 1 - y instead of 1 - y^2 for tanh. Rules are values, so we can try.

wrong_rule = fbp.rule.derivative(jax.lax.tanh_p, lambda _, y: 1.0 - y)
wrong = fbp.grad(loss_fn, rules=fbp.RULES | wrong_rule)(params, x, y)
right = jax.grad(loss_fn)(params, x, y)


def worst(got, want):
    """Return the largest difference of two leaves, in ULPs of the largest entry."""
    got, want = np.asarray(got), np.asarray(want)
    return float(np.max(ulp_distance(got, want, at=np.max(abs(want)))))


distances = jax.tree.map(worst, wrong, right)
print("\nwith a wrong rule for tanh")
for path, ulps in jax.tree_util.tree_leaves_with_path(distances):
    print(f"   params{jax.tree_util.keystr(path):20} {ulps:12.0f} ULPs")
assert min(distances["hidden"][0]["w"], distances["hidden"][1]["w"]) > 1e4
assert distances["out"] < 16

# Millions of ULPs in the hidden layers, and none to speak of in `out`: no tanh lies between
# `out` and the loss. Which leaves are wrong says where to look.
#
# ## 4. Finite differences
#
# The check without a second implementation is the definition of the derivative:
# f'(w) is about (f(w + h) - f(w - h)) / 2h. It has two errors that pull in opposite directions.
# A large h leaves out the curve, an error like h^2. A small h subtracts two nearly equal numbers,
# whose rounding errors stay while their difference shrinks: an error like 1/h.


def along(direction):
    """Return the loss along a line through the parameters, as a function of one number."""
    return lambda s: loss_fn(jax.tree.map(lambda w, d: w + s * d, params, direction), x, y)


direction = jax.tree.map(lambda w: w / jnp.linalg.norm(w), right)
line = jax.jit(along(direction))

with jax.enable_x64(True):  # the same in 64 bits, as the reference
    exact_params, exact_direction, exact_x, exact_y = jax.tree.map(
        lambda a: np.asarray(a, np.float64), (params, direction, x, y)
    )
    exact_grads = jax.grad(loss_fn)(exact_params, exact_x, exact_y)
    terms = jax.tree.map(lambda g, d: jnp.sum(g * d), exact_grads, exact_direction)
    exact = float(sum(jax.tree.leaves(terms)))

by_fbp = abs(float(fbp.grad(line)(0.0)) / exact - 1)
print(f"\nerror of fbp.grad:                {by_fbp:.1e}")

errors = {}
for h in (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
    difference = (float(line(h)) - float(line(-h))) / (2 * h)
    errors[h] = abs(difference / exact - 1)
    print(f"error of finite differences, h = {h:<7}: {errors[h]:.1e}")

best = min(errors, key=lambda h: errors[h])
assert 1e-6 < best < 1.0
assert errors[best] > 10 * by_fbp

# Even at the best h, which nobody knows beforehand, the check is hundreds of times less exact
# than the gradient that it is to check. A small mistake would pass. And each direction costs two
# runs of the function, where a gradient has one number for each parameter and costs about as much
# as a few runs in all. Finite differences find gross mistakes; a second reverse mode finds the
# small ones.
