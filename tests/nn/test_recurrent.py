import jax
import numpy as np
import pytest
from scipy.special import expit

from fbp import nn
from tests.support.networks import KEY, draw, run


def lstm(p, x):
    """h after each step, by a loop."""
    h = c = np.zeros((len(x), len(p["recurrent"])))
    states = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ p["kernel"] + h @ p["recurrent"] + p["bias"]
        i, f, g, o = np.split(gates, 4, axis=-1)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = expit(o) * np.tanh(c)
        states.append(h)
    return np.stack(states, axis=1)


def gru(p, x):
    """h after each step, by a loop."""
    h = np.zeros((len(x), len(p["recurrent"])))
    states = []
    for t in range(x.shape[1]):
        r, z, n = np.split(x[:, t] @ p["kernel"] + p["bias"], 3, axis=-1)
        r_h, z_h, n_h = np.split(h @ p["recurrent"], 3, axis=-1)
        r, z = expit(r + r_h), expit(z + z_h)
        h = (1 - z) * np.tanh(n + r * (n_h + p["recurrent_bias"])) + z * h
        states.append(h)
    return np.stack(states, axis=1)


LOOPS = {nn.lstm: lstm, nn.gru: gru}
every_cell = pytest.mark.parametrize("cell", LOOPS, ids=lambda cell: cell.__name__)


@every_cell
@pytest.mark.parametrize("in_shape", [(2, 6, 3), (1, 1, 4)])
def test_recurrent_layers_are_their_loops(cell, in_shape):
    params, x = draw(cell(5), in_shape)
    np.testing.assert_allclose(
        run(cell(5), params, x), LOOPS[cell](params, x), rtol=1e-5, atol=1e-6
    )


@every_cell
def test_the_last_state_is_the_last_of_the_sequence(cell):
    params, x = draw(cell(5), (2, 6, 3))
    last = run(cell(5, sequence=False), params, x)
    np.testing.assert_allclose(last, run(cell(5), params, x)[:, -1], rtol=1e-6)


@every_cell
def test_a_state_depends_on_the_past_only(cell):
    params, x = draw(cell(5), (2, 6, 3))
    np.testing.assert_allclose(
        run(cell(5), params, x[:, :4]), run(cell(5), params, x)[:, :4], rtol=1e-6, atol=1e-6
    )


@every_cell
def test_the_loop_holds_one_product(cell):
    params, x = draw(cell(5), (2, 6, 3))
    jaxpr = jax.make_jaxpr(cell(5).apply)(params, x)
    (loop,) = (eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    assert str(loop.params["jaxpr"]).count("dot_general") == 1


@every_cell
def test_recurrent_kernels_start_orthogonal_gate_by_gate(cell):
    params, _ = cell(5).init(KEY, (-1, 6, 3))
    for gate in np.split(np.asarray(params["recurrent"]), params["recurrent"].shape[1] // 5, 1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(5), atol=1e-5)


def test_the_memory_is_retained_at_first():
    params, _ = nn.lstm(3).init(KEY, (-1, 6, 3))
    np.testing.assert_array_equal(params["bias"], [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])


@every_cell
@pytest.mark.parametrize("shape", [(2, 3), (2, 6, 3, 1)])
def test_inputs_are_sequences(cell, shape):
    with pytest.raises(nn.LayerError, match=r"must be \[batch, time, features\], got shape"):
        cell(5).init(KEY, shape)


@every_cell
def test_many_networks_are_drawn_under_vmap(cell):
    keys = jax.random.split(KEY, 2)
    together = jax.jit(jax.vmap(lambda key: cell(3).init(key, (-1, 6, 2))[0]))(keys)
    alone, _ = cell(3).init(keys[1], (-1, 6, 2))
    for name, value in alone.items():
        np.testing.assert_allclose(together[name][1], value, rtol=1e-5, atol=1e-6)
