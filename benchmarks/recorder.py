"""What a recorder costs: operations and bytes of a step of `train(record=Recorder())`.

    python -m benchmarks.recorder

One of k steps is recorded: k steps are k - 1 times the body of the loop without a recorder, and
once that with it. Each body is compiled by itself, as `train` compiles it, and counted by XLA.
Goal: at most 3 % more of both where one of 50 steps is recorded, as in configs/digits_mlp.toml.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.opened import Cost, cost
from fbp.nn import mlp
from fbp.train.engine import init_of, loss_of
from fbp.train.objective import objective_for
from fbp.train.problem import Problem
from fbp.train.recorder import recorded_update
from fbp.train.scan_steps import scan_steps
from fbp.train.state import TrainState, initial_state
from fbp.train.step import Update, loss_and_grads_fn, make_update

WIDTH, CLASSES, EXAMPLES, BATCH = 512, 10, 2048, 256
OPTIMIZERS = {"sgd": optax.sgd(0.1), "adam": optax.adam(0.001)}
EVERY = (1, 10, 25, 50, 100)
GOAL_EVERY, GOAL = 50, 1.03


def problem() -> Problem:
    """Return three dense layers of width 512 and an output, on as many features."""
    features = jnp.zeros((EXAMPLES, WIDTH)), jnp.zeros(EXAMPLES, jnp.int32)
    network, objective = mlp([WIDTH] * 3 + [CLASSES]), objective_for("classification", CLASSES, 0)
    return Problem({"train": features, "validation": features}, network, objective)


def body(problem: Problem, update: Update, state: TrainState) -> Cost:
    """Return the cost of a step, with the reading of its batch."""
    indices = jnp.zeros((1, BATCH), jnp.int32)
    steps: Any = lambda *args: scan_steps(update, *args)
    return cost(steps, state, problem.parts["train"], indices)


def main() -> int:
    """Print the table; return 1 where the goal is missed."""
    trained, missed = problem(), False
    loss_fn = loss_of(trained)
    print(f"width {WIDTH}, batches of {BATCH}: multiples of a step without a recorder")
    print("| optimizer | recorded steps | operations | bytes |")
    print("|---|---|---|---|")
    for name, tx in OPTIMIZERS.items():
        state = initial_state(init_of(trained)(jax.random.key(0))[0], tx, jax.random.key(1))
        plain = body(trained, make_update(loss_and_grads_fn(loss_fn), tx), state)
        recorded = body(trained, recorded_update(loss_fn, tx), state)
        for every in EVERY:
            more = [(b / a - 1) / every for a, b in zip(plain[:2], recorded[:2], strict=True)]
            is_missed = every >= GOAL_EVERY and 1 + max(more) > GOAL
            missed |= is_missed
            cells = " | ".join(f"{1 + share:.4f}" for share in more)
            print(f"| {name} | 1 of {every} | {cells}{' (!)' if is_missed else ''} |", flush=True)
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
