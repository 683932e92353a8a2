"""Points of many shapes."""

import jax.numpy as jnp
import pytest
from hypothesis import given, settings

from fbp.errors import InputError
from fbp.testing import points
from fbp.verify import check


@settings(max_examples=2, deadline=None)
@given(points("float32[n,k]", "float32[k]", largest=2))
def test_a_check_takes_what_is_drawn(args):
    assert check(lambda x, y: jnp.sum(jnp.tanh(x @ y)), *args).ok


def test_a_word_that_is_no_type_is_refused():
    with pytest.raises(InputError, match="no dtype"):
        points("float32(n)")
