import jax
import jax.numpy as jnp
import optax
import pytest

from fbp import InputError
from fbp.train import initial_state


def test_state_is_a_pytree_of_arrays():
    state = initial_state({"w": jnp.ones(3)}, optax.adam(0.1), jax.random.key(0))
    doubled = jax.tree.map(lambda x: x, state)
    assert type(doubled) is type(state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.bool_, jnp.complex64])
def test_parameter_that_is_not_of_floats_is_named(dtype):
    params = {"dense": {"kernel": jnp.ones(3), "mask": jnp.ones((2, 2), dtype)}}
    with pytest.raises(InputError) as error:
        initial_state(params, optax.sgd(0.1), jax.random.key(0))
    assert str(error.value).startswith(f"params['dense']['mask'] is {jnp.dtype(dtype).name}[2, 2]")
