import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbp.verify import ulp_distance

floats = st.floats(width=32, min_value=-(2.0**100), max_value=2.0**100, allow_subnormal=False)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_neighbours_are_one_ulp_apart(dtype):
    x = np.array([1.0, -3.5, 100.0, 0.2], dtype)
    np.testing.assert_array_equal(ulp_distance(x, np.nextafter(x, dtype(np.inf))), 1.0)


def test_bfloat16_has_its_own_spacing():
    one = jnp.ones((), jnp.bfloat16)
    assert ulp_distance(one, one + jnp.finfo(jnp.bfloat16).eps) == 1.0


@given(floats, floats)
def test_distance_is_symmetric_and_zero_only_for_equals(a, b):
    a, b = np.float32(a), np.float32(b)
    assert ulp_distance(a, b) == ulp_distance(b, a)
    assert (ulp_distance(a, b) == 0) == (a == b)


def test_opposite_signs_are_far_apart_and_zeros_are_equal():
    assert ulp_distance(np.float32(1), np.float32(-1)) == 2.0**24
    assert ulp_distance(np.float32(0.0), np.float32(-0.0)) == 0


def test_nan_equals_nan_alone_and_infinity_itself():
    a = np.array([np.nan, np.nan, np.inf, np.inf, 1.0], np.float32)
    b = np.array([np.nan, 1.0, np.inf, -np.inf, np.inf], np.float32)
    np.testing.assert_array_equal(ulp_distance(a, b), [0, np.inf, 0, np.inf, np.inf])


def test_unit_can_be_the_spacing_at_a_given_magnitude():
    a, b = np.float32(1e-6), np.float32(1.5e-6)
    assert ulp_distance(a, b, at=np.float32(1.0)) == pytest.approx(0.5e-6 / 2.0**-23, rel=1e-6)


def test_complex_distance_is_of_the_modulus():
    a = np.complex64(3 + 4j)
    eps = np.finfo(np.float32).eps
    assert ulp_distance(a, np.complex64(a + 4 * eps * 1j)) == 1.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros(2, np.float32), np.zeros(3, np.float32)),
        (np.zeros(2, np.float32), np.zeros(2, np.float64)),
        (np.zeros(2, np.int32), np.zeros(2, np.int32)),
    ],
)
def test_arrays_that_cannot_be_compared_raise(a, b):
    with pytest.raises(ValueError, match="give two arrays of floats"):
        ulp_distance(a, b)
