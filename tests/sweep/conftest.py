"""optax adds integers to floats, which strict dtype promotion forbids."""

import jax
import pytest


@pytest.fixture
def standard_promotion():
    """Run the test with JAX's usual dtype promotion, as optax's Adam and schedules need it."""
    with jax.numpy_dtype_promotion("standard"):
        yield
