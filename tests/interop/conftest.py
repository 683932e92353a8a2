"""Other people's libraries promote ranks and dtypes as JAX does by default."""

import jax
import pytest


@pytest.fixture(autouse=True)
def promotion():
    """Run the test with JAX's default promotion."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield
