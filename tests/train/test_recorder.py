"""A recording: what it measures, that it changes nothing, and traps whose layer it names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp.data import load
from fbp.errors import InputError
from fbp.nn import mlp
from fbp.recording import recording_of
from fbp.report.suspects import suspects
from fbp.train import initial_state, train
from fbp.train.recorder import Recorder, layer_measures, recorded_update
from fbp.train.step import loss_and_grads_fn, make_update

DIGITS = load("digits")
CALL = {"key": jax.random.key(0), "batch_size": 32, "progress": False}
run = functools.partial(train, mlp([16, 10]), DIGITS, **CALL)


@pytest.fixture(scope="module")
def recorded():
    return run(optax.sgd(0.5), steps=20, evaluate_every=5, record=Recorder(noise_scale=True))


def test_a_recording_changes_no_bit_of_the_training(recorded):
    plain = run(optax.sgd(0.5), steps=20, evaluate_every=5)
    assert [m.loss for m in plain.history] == [m.loss for m in recorded.history]
    for a, b in zip(*map(jax.tree.leaves, (plain.state, recorded.state)), strict=True):
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            np.testing.assert_array_equal(a, b)


def test_the_last_step_before_each_measurement_is_recorded(recorded):
    recording = recorded.recording
    assert recording.steps == (5, 10, 15, 20)
    assert set(recording.measures) == {
        "gradient_norm",
        "zero_share",
        "cosine",
        "update_ratio",
        "dead_units",
        "noise_scale",
    }
    names = {"1_dense/kernel", "1_dense/bias", "3_dense/kernel", "3_dense/bias"}
    assert set(recording.measures["gradient_norm"]) == names
    assert set(recording.measures["noise_scale"]) == names
    assert all(len(v) == 4 for by in recording.measures.values() for v in by.values())
    assert "4 steps to 20, 4 parameters" in repr(recording)


def test_nothing_is_recorded_unless_asked_for():
    result = run(optax.sgd(0.5), steps=2, evaluate_every=1)
    assert result.recording.steps == ()
    assert result.recording.first_nonfinite is None


def test_measures_are_those_of_numpy():
    rng = np.random.default_rng(0)
    w, g = rng.normal(size=(2, 3, 4)).astype(np.float32)
    g[0] = 0
    actual = layer_measures({"w": w}, {"w": g}, {"w": w - np.float32(0.1) * g})
    norm = np.linalg.norm
    expected = {
        "gradient_norm": norm(g),
        "zero_share": 1 / 3,
        "cosine": np.vdot(w, g) / norm(w) / norm(g),
        "update_ratio": 0.1 * norm(g) / norm(w),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name]["w"], value, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_norms_of_narrow_dtypes_do_not_overflow(dtype):
    w = jnp.full(8, 1000, dtype)
    assert layer_measures({"w": w}, {"w": w}, {"w": w})["gradient_norm"]["w"] == pytest.approx(
        1000 * 8**0.5, rel=1e-3
    )


def test_dead_units_of_a_scan_over_layers_are_named_one_by_one():
    def loss(params, batch, key):
        layer = lambda h, w: (jax.nn.relu(h @ w), None)
        return jnp.mean(jax.lax.scan(layer, batch, params)[0])

    weights = jnp.stack([jnp.eye(4), -jnp.eye(4)])
    state = initial_state(weights, optax.sgd(0.1), jax.random.key(0))
    _, (_, measures) = jax.jit(recorded_update(loss, optax.sgd(0.1)))(state, jnp.ones((3, 4)))
    assert [float(v) for v in measures["dead_units"].values()] == [0.0, 1.0]
    assert all(name.endswith(("[0]", "[1]")) for name in measures["dead_units"])


def test_recorded_microbatches_have_the_gradient_of_the_batch():
    loss = lambda w, x, key: jnp.mean((x @ w) ** 2)
    state = initial_state(jnp.ones(3), optax.sgd(0.1), jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (8, 3))
    whole, (_, one) = recorded_update(loss, optax.sgd(0.1))(state, x)
    parts, (_, four) = recorded_update(loss, optax.sgd(0.1), microbatches=4)(state, x)
    np.testing.assert_allclose(whole.params, parts.params, rtol=1e-6)
    np.testing.assert_allclose(
        one["gradient_norm"]["params"], four["gradient_norm"]["params"], rtol=1e-6
    )


def test_a_recorded_step_costs_at_most_three_percent_more_at_width_512():
    """Operations of the compiled step, as XLA counts them."""
    layers = [jnp.ones((512, 512))] * 3

    def loss(params, batch, key):
        for w in params:
            batch = jax.nn.relu(batch @ w)
        return jnp.mean(batch)

    tx = optax.sgd(0.1)
    state = initial_state(layers, tx, jax.random.key(0))
    plain = make_update(loss_and_grads_fn(loss), tx)
    flops = [
        jax.jit(update).lower(state, jnp.ones((256, 512))).compile().cost_analysis()["flops"]
        for update in (plain, recorded_update(loss, tx))
    ]
    assert flops[1] <= 1.03 * flops[0]


def test_of_a_diverged_run_the_last_steps_are_recorded_one_by_one():
    result = run(optax.sgd(1e38), steps=12, evaluate_every=4, record=Recorder(last=3))
    assert result.stopped == "diverged"
    assert len(result.last_steps.steps) == 3
    step, layer = result.last_steps.first_nonfinite
    assert step in result.last_steps.steps
    assert layer.startswith(("1_dense", "3_dense"))


def test_a_negative_number_of_last_steps_is_refused():
    with pytest.raises(InputError, match="last = -1"):
        Recorder(last=-1)


def layered(params, batch, key, act):
    for w in params:
        batch = act(batch @ w["w"] + w["b"][None])
    return jnp.mean((batch - 1) ** 2)


def trap(layers, act=jnp.tanh, tx=None, steps=6, dtype=jnp.float32):
    """Train with all steps recorded; return losses and the recording."""
    tx = tx or optax.sgd(0.01)
    loss = functools.partial(layered, act=act)
    state = initial_state(jax.tree.map(lambda x: x.astype(dtype), layers), tx, jax.random.key(0))
    update = jax.jit(recorded_update(loss, tx))
    batch = jax.random.normal(jax.random.key(1), (16, 8), dtype)
    losses, rows = [], []
    for _ in range(steps):
        state, (value, measures) = update(state, batch)
        losses.append(float(value))
        rows.append(jax.tree.map(float, measures))
    return losses, recording_of(range(1, steps + 1), rows)


def layers(count=3, scale=0.3):
    keys = jax.random.split(jax.random.key(2), count)
    return [{"w": scale * jax.random.normal(k, (8, 8)), "b": jnp.zeros(8)} for k in keys]


def test_a_dead_layer_is_named():
    params = layers()
    params[1]["b"] = jnp.full(8, -100.0)
    losses, recording = trap(params, jax.nn.relu)
    assert np.isfinite(losses).all()
    named = {s.layer: s for s in suspects(recording)}
    assert "no gradient arrives" in named["1/w"].reason
    assert any("units" in s.reason for s in named.values())


def test_a_layer_behind_weights_of_zero_is_named_and_a_healthy_one_is_not():
    _, healthy = trap(layers())
    assert suspects(healthy) == []
    params = layers()
    params[1]["w"] = jnp.zeros((8, 8))
    _, recording = trap(params, tx=optax.sgd(0.0))
    assert "0/w" in [s.layer for s in suspects(recording)]


def test_an_update_lost_to_rounding_is_named():
    losses, recording = trap(layers(), tx=optax.sgd(1e-7), dtype=jnp.bfloat16)
    assert np.isfinite(losses).all()
    assert any("lost to rounding" in s.reason for s in suspects(recording))


def test_a_rate_that_is_too_large_for_one_layer_names_it_before_the_loss_is_not_finite():
    rates = {"0": 0.001, "1": 30.0, "2": 0.001}
    tx = optax.multi_transform(
        {k: optax.sgd(v) for k, v in rates.items()},
        lambda params: [{"w": str(i), "b": str(i)} for i in range(3)],
    )
    losses, recording = trap(layers(), act=lambda x: x, tx=tx, steps=30)
    bad = next(i + 1 for i, v in enumerate(losses) if not np.isfinite(v) or v > 10 * losses[0])
    named = {s.layer: s.step for s in suspects(recording)}
    assert min(named.values()) == named["1/w"] <= bad


def test_a_healthy_training_names_nobody(recorded):
    assert suspects(recorded.recording) == []
