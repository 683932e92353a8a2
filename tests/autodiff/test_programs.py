"""Random programs, differentiated by fbp and by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fbp
from tests.support.agreement import assert_same, total
from tests.support.generated import programs, run

TOLERANCE = 2**12  # of a leaf's largest entry: terms that cancel within a program are larger
EVERYDAY = settings(max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck))
THOROUGH = settings(EVERYDAY, max_examples=2000, derandomize=False)


def inputs(seed, dtype):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(0, 1, shape), dtype) for shape in [(), (3,), (2, 3)])


def check(body, seed, dtype):
    with jax.enable_x64(dtype == "float64"):
        args = inputs(seed, dtype)

        def gradient(library):
            return library.value_and_grad(lambda *args: total(run(library, body, args)), (0, 1, 2))

        got, want = jax.jit(lambda *args: (gradient(fbp)(*args), gradient(jax)(*args)))(*args)
        if all(np.isfinite(x).all() for x in jax.tree.leaves(want)):
            assert_same(*(jax.tree.map(_beside_floor, x) for x in (got, want)), TOLERANCE)


def _beside_floor(x):
    """A leaf that rounding alone may have made is measured against a fixed scale."""
    return jnp.append(x, jnp.asarray(2.0**-10, jnp.asarray(x).dtype))


@EVERYDAY
@given(programs(), st.integers(0, 3))
def test_random_programs_have_jaxs_gradients(body, seed):
    check(body, seed, "float64")


@pytest.mark.slow
@THOROUGH
@given(programs(depth=3, size=8), st.integers(0, 1000), st.sampled_from(["float32", "float64"]))
def test_more_and_deeper_random_programs_have_jaxs_gradients(body, seed, dtype):
    check(body, seed, dtype)
