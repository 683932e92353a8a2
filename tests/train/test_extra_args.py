"""Optimizers that ask for the loss or for gradients elsewhere train as optax's do by hand."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp import InputError
from fbp.config import Optimizer, Train
from fbp.optimizers import OPTIMIZERS, REFUSED
from fbp.train.engine import engine_of
from fbp.train.optimizer import make_optimizer, optimizer_of
from fbp.train.problem import Problem
from fbp.train.state import initial_state
from fbp.train.step import make_step

pytestmark = pytest.mark.usefixtures("standard_promotion")

X = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
Y = np.tanh(X @ np.float32([1.0, -2.0, 0.5]))
PART = {"x": X, "y": Y}
START = {"w": jnp.array([0.3, 0.1, -0.2]), "b": jnp.array(0.1)}
STEPS = 4
RATES = (0.01, 0.1)
UPHILL = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
ASKING = {
    "lbfgs": (optax.lbfgs, ("value", "grad", "value_fn")),
    "polyak_sgd": (optax.polyak_sgd, ("value",)),
    "momo": (optax.contrib.momo, ("value",)),
    "sam": (
        lambda rate: optax.contrib.sam(optax.sgd(rate), UPHILL, opaque_mode=True),
        ("grad_fn",),
    ),
    "sophia": (optax.contrib.sophia, ("obj_fn",)),
}


def loss(params, batch, key):
    return jnp.mean((jnp.tanh(batch["x"] @ params["w"] + params["b"]) - batch["y"]) ** 2)


def problem(**options):
    return Problem({"train": PART, "validation": PART}, lambda key: START, loss, **options)


def swept(name, steps=STEPS, **train):
    """The parameters of trials with these rates, mapped side by side as in a sweep."""
    config = Train(steps, 64, steps, **train)
    make = lambda trial: make_optimizer(Optimizer(name), config, trial)
    engine = engine_of(problem(), make)

    def run(rate):
        trial = {"learning_rate": rate}
        state = engine.init(jax.random.key(0), jax.random.key(1), trial)
        order = jnp.tile(jnp.arange(64), (steps, 1))
        return engine.advance(state, trial, PART, order)[0].params

    return jax.jit(jax.vmap(run))(jnp.array(RATES))


def by_hand(tx, asked, steps=STEPS):
    """The parameters by optax and jax.grad, told what is asked for."""
    fun = lambda params: loss(params, PART, None)

    @jax.jit
    def step(params, state):
        value, grad = jax.value_and_grad(fun)(params)
        told = {"value": value, "grad": grad, "value_fn": fun, "obj_fn": fun}
        told["grad_fn"] = lambda params, _: jax.grad(fun)(params)
        known = {name: told[name] for name in asked}
        updates, state = tx.update(grad, state, params, **known)
        return optax.apply_updates(params, updates), state

    params, state = START, tx.init(START)
    for _ in range(steps):
        params, state = step(params, state)
    return params


@pytest.mark.parametrize("name", ASKING)
def test_optimizer_that_asks_for_more_trains_as_by_hand(name):
    make, asked = ASKING[name]
    actual = swept(name)
    for i, rate in enumerate(RATES):
        expected = by_hand(make(rate), asked)
        for leaf in START:
            np.testing.assert_allclose(actual[leaf][i], expected[leaf], rtol=2e-3, atol=1e-5)
    assert not np.allclose(actual["w"][0], START["w"])


def until_small(params, batch, key):
    """A loop whose length the data decide: JAX has no gradient of it, fbp has."""
    double = lambda x: 2 * x
    error = loss(params, batch, key)
    return jax.lax.while_loop(lambda x: x < 10, double, error + 1e-3) / 10


@pytest.mark.parametrize("name", ["lbfgs", "sam"])
def test_gradients_that_optax_takes_are_those_of_fbp(name):
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.grad(until_small)(START, PART, None)
    tx = make_optimizer(Optimizer(name), Train(2, 64, 2), {"learning_rate": 0.1})
    step = make_step(until_small, tx)
    state, value = step(initial_state(START, tx, jax.random.key(0)), PART)
    assert np.isfinite(value)
    assert not np.allclose(state.params["w"], START["w"])


@pytest.mark.parametrize("make", [optax.lbfgs, ASKING["sam"][0]], ids=["lbfgs", "sam"])
def test_optimizer_of_a_problem_is_told_what_it_asks_for(make):
    own = problem(optimizer=lambda learning_rate: make(learning_rate))
    config = type("C", (), {"train": Train(4, 64, 4, schedule="cosine", accumulate=2)})
    engine = engine_of(own, optimizer_of(config, own))
    trial = {"learning_rate": 0.1}
    state = engine.state_shapes(trial)
    after, _ = jax.eval_shape(engine.update(trial), state, PART)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def optimizers(module):
    """The optimizers of a module: what takes a rate, or an optimizer to wrap, and is no part."""
    names = {"learning_rate", "max_learning_rate", "base_optimizer", "optimizer", "fast_optimizer"}
    for name, function in inspect.getmembers(module, inspect.isfunction):
        takes = names & set(inspect.signature(function).parameters)
        part = name.startswith(("scale_by_", "selective_"))
        if takes and not name.startswith("_") and not part:
            yield name


@pytest.mark.parametrize("module", [optax, optax.contrib])
def test_every_optimizer_of_optax_can_be_named_or_is_refused_by_its_name(module):
    names = set(optimizers(module))
    assert len(names) > 15
    left = names - set(OPTIMIZERS) - set(REFUSED)
    assert left - {"linear_onecycle_schedule", "schedule_free_eval_params"} == set()


@pytest.mark.parametrize("name", REFUSED)
def test_optimizer_that_cannot_be_swept_is_refused_with_its_reason(name):
    with pytest.raises(InputError, match=f"name: {name} cannot be swept: it"):
        Optimizer(name)
