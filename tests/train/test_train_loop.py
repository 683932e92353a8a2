import inspect

import jax
import numpy as np
import optax
import pytest

from fbp import InputError, nn
from fbp.data import load
from fbp.train import initial_state, make_step, train
from fbp.train.batches import batch_indices
from fbp.train.objective import mean_loss, objective_of
from fbp.verify import Kind

DIGITS = load("digits")
KEY = jax.random.key(0)


def run(network=None, tx=None, **changes):
    network, tx = network or nn.mlp([8, 10]), tx or optax.sgd(0.3, momentum=0.5)
    settings = {"key": KEY, "steps": 60, "batch_size": 32, "evaluate_every": 20}
    return train(network, DIGITS, tx, **settings | changes, progress=False)


def test_procedure_of_an_introduction_is_in_the_source_in_its_order():
    source = inspect.getsource(train)
    steps = (
        "Build the network",
        "Draw weights and biases at random",
        "Feed the input forward",
        "Compare output and target",
        "Carry the error back",
        "Adjust the parameters",
        "Repeat until the output is as desired",
    )
    positions = [source.index(f"# {step}") for step in steps]
    assert positions == sorted(positions)


def test_training_is_the_repetition_of_make_step():
    network = nn.mlp([8, 10])
    outcome = run(network, steps=7, evaluate_every=3)
    init_key, order_key, step_key = jax.random.split(KEY, 3)
    params, _ = network.init(init_key, (-1, 64))
    tx = optax.sgd(0.3, momentum=0.5)
    step = make_step(mean_loss(network.apply, objective_of(DIGITS)), tx)
    state = initial_state(params, tx, step_key)
    for index in batch_indices(order_key, 0, 7, len(DIGITS.train), 32):
        state, _ = step(state, (DIGITS.train.x[index], DIGITS.train.y[index]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        outcome.state.params,
        state.params,
    )
    assert [m.step for m in outcome.history] == [0, 3, 6, 7]
    assert outcome.stopped == "steps"


def test_a_budget_of_memory_that_nothing_meets_is_refused_and_one_that_fits_changes_nothing():
    one = jax.make_mesh((1,), ("data",))
    short = {"steps": 4, "evaluate_every": 2, "mesh": one}
    with pytest.raises(InputError, match="the least that was found is"):
        run(**short, memory=1)
    assert run(**short, memory=2**30).history == run(**short).history
    with pytest.raises(InputError, match="leave it out on a mesh of 2"):
        run(**short | {"mesh": jax.make_mesh((2,), ("data",))}, memory=2**30)


def test_same_key_gives_the_same_run_bit_for_bit_and_another_one_does_not():
    first, again, other = (run(steps=10, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert first.history[1:] == again.history[1:]
    assert first.history[1:] != other.history[1:]


def test_it_learns():
    history = run(nn.mlp([32, 10]), steps=200, evaluate_every=100).history
    assert history[0].score < 0.3 < 0.8 < history[-1].score
    assert history[-1].training_loss < history[1].training_loss


def test_it_stops_when_the_output_is_as_desired():
    outcome = run(steps=500, target=0.6)
    assert outcome.stopped == "target"
    assert outcome.history[-1].score >= 0.6 > outcome.history[-2].score


def test_it_stops_when_the_validation_loss_has_not_fallen_and_returns_the_best_state():
    outcome = run(tx=optax.sgd(2.0), steps=1000, patience=2)
    losses = [m.loss for m in outcome.history]
    assert outcome.stopped == "patience"
    assert np.argmin(losses) == len(losses) - 3
    assert outcome.state.step == outcome.history[-3].step


def test_it_stops_when_it_has_diverged():
    outcome = run(tx=optax.sgd(1e20), steps=1000)
    assert outcome.stopped == "diverged"
    assert outcome.history[-1].step == 20


def test_a_run_that_turns_nan_reports_the_origin():
    origin = run(tx=optax.sgd(1e20), steps=1000).origin.findings[0]
    assert origin.kind is Kind.NON_FINITE
    assert len(origin.iteration) == 1
    assert origin.source
    assert run(steps=10).origin is None


def test_network_that_does_not_fit_the_task_is_refused():
    with pytest.raises(InputError, match=r"the network gives \[7\] numbers"):
        run(nn.mlp([8, 7]))


def test_dropout_is_random_in_training_and_absent_in_measuring():
    outcome = run(nn.serial(nn.dropout(0.5), nn.dense(10)), steps=5)
    logits = DIGITS.validation.x @ outcome.state.params["1_dense"]["kernel"]
    logits = logits + outcome.state.params["1_dense"]["bias"][None, :]
    score = np.mean(np.argmax(logits, axis=1) == DIGITS.validation.y)
    np.testing.assert_allclose(outcome.history[-1].score, score, rtol=1e-6)
