import jax.numpy as jnp
import numpy as np

from fbp.train.scan_steps import scan_steps


def test_scan_does_what_a_python_loop_does():
    x, y = jnp.arange(12.0).reshape(6, 2), jnp.arange(6.0)
    indices = jnp.array([[0, 3], [5, 1], [2, 2]])

    def update(state, batch):
        state = 0.5 * state + jnp.sum(batch[0]) - jnp.sum(batch[1])
        return state, state**2

    state, expected = jnp.float32(1.0), []
    for index in indices:
        state, square = update(state, (x[index], y[index]))
        expected.append(square)
    last, squares = scan_steps(update, jnp.float32(1.0), (x, y), indices)
    assert last == state
    np.testing.assert_array_equal(squares, expected)
