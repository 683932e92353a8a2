"""A sweep that is recorded: all other steps are the program that they are without a recorder."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbp.config_file import problem_config
from fbp.data.dataset import Dataset, Split
from fbp.nn import mlp
from fbp.sweep import Problem
from fbp.sweep.study import studies_of
from fbp.train import objective_of
from fbp.train.engine import keys_of

X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
ROWS = Split(X, X[:, 0] * X[:, 1])
LINE = Dataset("product", ROWS, ROWS, ROWS, "regression", 0, (3,))
PROBLEM = Problem(LINE, mlp([4, 1]), objective_of(LINE), (8, 3), optimizer=optax.sgd)
TRAIN = {"steps": 6, "batch_size": 8, "evaluate_every": 2, "record": True}
SWEEP = {"learning_rate": [0.1, 1e30], "seeds": 2, "trials": "map"}


def test_other_steps_have_the_same_equations():
    """The scan of all steps but the last, and of all steps without a recorder."""
    init_key, _, step_key = keys_of(0)

    def bodies(record):
        tables = {"name": "line", "train": TRAIN | {"record": record}, "sweep": SWEEP}
        (study,) = studies_of(problem_config(tables, "line"), PROBLEM)
        engine, numbers = study.engine, study.trials[0].hyperparameters
        state = engine.init(init_key, step_key, numbers)
        examples = PROBLEM.parts["train"]
        advance = lambda state, order: engine.advance_recorded(state, numbers, examples, order)
        program = jax.make_jaxpr(advance)(state, jnp.zeros((4, 8), jnp.int32))
        scans = [eqn.params for eqn in program.eqns if eqn.primitive.name == "scan"]
        return [(scan["length"], str(scan["jaxpr"])) for scan in scans]

    recorded, plain = bodies(True), bodies(False)
    assert [length for length, _ in recorded] == [3, 1]
    assert [length for length, _ in plain] == [4]
    assert recorded[0][1] == plain[0][1] != recorded[1][1]
