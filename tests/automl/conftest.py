"""Fits that several tests look at, made once."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_iris

import fbp


def waves(size):
    """Rows of two columns, and a noisy smooth function of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(size, 2))
    return x, np.sin(x[:, 0]) * 100 + 20 * x[:, 1] + rng.normal(size=size)


@pytest.fixture(scope="package", autouse=True)
def standard_promotion():
    """JAX's usual dtype promotion, as optax's AdamW needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="package")
def flowers():
    """Iris: rows, and the kind of each as a word."""
    x, y = load_iris(return_X_y=True)
    return x, np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.fixture(scope="package")
def classifier(flowers):
    return fbp.fit(*flowers, target_name="kind")


@pytest.fixture(scope="package")
def regression():
    return waves(160)


@pytest.fixture(scope="package")
def regressor(regression):
    return fbp.fit(*regression, target_name="height")
