"""Every test runs strictly: no rank promotion, no dtype promotion, eight CPU devices. None fails
because the machine is slow."""

import hypothesis
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")


@pytest.fixture
def x64():
    """Run the test with 64-bit floats."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion():
    """Run the test with JAX's usual dtype promotion: optax's Adam and schedules add integers to
    floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield
