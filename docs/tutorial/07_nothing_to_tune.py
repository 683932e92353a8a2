"""Nothing to tune: give the data, get a trained network.

    python docs/tutorial/07_nothing_to_tune.py

05 chose the learning rate by trying many. `fbp.fit` does that, and the rest: it looks at the data,
builds a network, draws its weights, finds the rate, trains until the validation loss stops falling,
and measures the network once on examples that it has never seen.
"""

from sklearn.datasets import load_wine

import fbp

# ## 1. The data
#
# 178 wines, 13 measurements of each, and which of three vines it comes from.

x, y = load_wine(return_X_y=True)
print(f"{len(x)} wines, {x.shape[1]} measurements, {len(set(y))} vines")

# ## 2. Train

fitted = fbp.fit(x, y)
print(fitted.story.verdict)
assert fitted.story.score.value > 0.9

# In a notebook, a fit shows its learning curve.

fitted

# ## 3. What was decided
#
# Nothing is hidden. The range test raises the rate at every step until the loss stops falling; the
# sweep trains the rates around its suggestion, each on several parts of the data.

print(f"\nthe range test suggests {fitted.story.range_test.suggestion:.2g}")
for tried in fitted.story.rates:
    losses = "  ".join("diverged" if loss is None else f"{loss:.3f}" for loss in tried.losses)
    print(f"   rate {tried.rate:.2g}: validation losses {losses}")
print(f"chosen: {fitted.story.rate:.2g}, {fitted.story.plan.members} networks, their mean decides")

# ## 4. Predict

print(f"\nthe first three wines: {fitted.predict(x[:3])}, really {y[:3]}")

# `fbp fit data.csv --target column` does the same in a shell, and writes a page with pictures.
