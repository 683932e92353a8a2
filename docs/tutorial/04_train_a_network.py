"""Train a network of layers on images of handwritten digits.

    python docs/tutorial/04_train_a_network.py

The steps are those of 01, with more neurons and more examples: build the network, draw its
weights at random, feed the input forward, compare output and target, carry the error back,
adjust the parameters, repeat until the output is as desired.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbp import nn
from fbp.data import load
from fbp.train import evaluate, initial_state, make_step, objective_of, train

# ## 1. The data
#
# 1797 images of 8 x 8 pixels, each of a digit from 0 to 9. They come with scikit-learn, so nothing
# is downloaded. They are in three parts: gradients are made of `train`, choices on `validation`,
# and `test` is looked at once, at the end.

digits = load("digits")
print(digits.train, digits.validation, digits.test, f"{digits.feature_shape} inputs")

image = digits.train.x[0].reshape(8, 8)
shades = np.digitize(image, np.linspace(image.min(), image.max(), 4)[:-1]) - 1
print(f"\na {digits.train.y[0]}:")
for row in shades:
    print("   ", "".join(" .#"[shade] * 2 for shade in row))

# ## 2. Build the network
#
# A layer is two pure functions, `init` and `apply`, and a network is a layer made of layers. A
# dense layer connects each input with each output. It is the matrix of 01, with its biases.

network = nn.serial(nn.dense(64), nn.relu(), nn.dense(10))

# ## 3. Draw weights and biases at random
#
# Parameters are nested dictionaries. The -1 stands for any number of examples.

params, out_shape = network.init(jax.random.key(0), (-1, *digits.feature_shape))
print("\nparameters")
for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    print(f"   {jax.tree_util.keystr(path):24} {leaf.shape}")
assert out_shape == (-1, 10)

# ## 4. Feed the input forward, compare output and target
#
# The network gives ten numbers for an image, one for each digit. The largest is its answer. The
# cross-entropy says how far the ten are from the right answer; it is what 01 called the error.

objective = objective_of(digits)
before = evaluate(network.apply, objective, params, digits.validation.x, digits.validation.y)
print(f"\nbefore training: loss {before['loss']:.3f}, accuracy {before['accuracy']:.3f}")
assert before["accuracy"] < 0.3  # guessing would give 0.1

# ## 5. Carry the error back, adjust the parameters
#
# `make_step` compiles both into one update. Carrying back is fbp's, adjusting is optax's: any of
# its optimizers will do. Plain gradient descent is `optax.sgd`.


def loss_fn(params, batch, key):
    """Return the mean cross-entropy of a batch."""
    x, y = batch
    return jnp.mean(objective.losses(network.apply(params, x, key=key), y))


tx = optax.sgd(0.1)
step = make_step(loss_fn, tx)
state = initial_state(params, tx, jax.random.key(1))
batch = (digits.train.x[:32], digits.train.y[:32])

print("\nten steps on the same 32 images")
losses = []
for _ in range(10):
    state, loss = step(state, batch)
    losses.append(float(loss))
print("   " + "  ".join(f"{loss:.3f}" for loss in losses))
assert losses == sorted(losses, reverse=True)

# ## 6. Repeat until the output is as desired
#
# `train` does all of it: other images in each step, a measurement now and then, and an end as soon
# as the validation accuracy is as desired. Read its body in fbp/train/loop.py: it follows these
# steps.

trained = train(
    network,
    digits,
    tx,
    key=jax.random.key(0),
    steps=2000,
    batch_size=32,
    evaluate_every=100,
    target=0.97,
    progress=False,
)
print("\n   step  training loss  validation loss  validation accuracy")
for m in trained.history:
    mean = f"{m.training_loss:.3f}" if m.step else ""  # of the steps since the line before
    print(f"   {m.step:4}  {mean:>13}  {m.loss:15.3f}  {m.score:19.3f}")
print(f"   stopped: {trained.stopped}")
assert trained.stopped == "target"

# In a notebook, a result shows itself: here, the two losses by step.

trained

# ## 7. Report once, on images that had no part in it

params = trained.state.params
after = evaluate(network.apply, objective, params, digits.test.x, digits.test.y)
print(f"\ntest accuracy {after['accuracy']:.3f}")
assert after["accuracy"] > 0.93

# The learning rate, 0.1, was a guess. 05_which_learning_rate.py chooses one.
