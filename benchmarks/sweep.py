"""Trial-steps per second of a sweep, beside the usual ways to try many learning rates.

    python -m benchmarks.sweep [--widths 16 128] [--steps 195] [--repetitions 3]

An MLP on digits, 8 rates x 4 seeds, batches of 32, plain gradient descent. The contenders train
the same trials: a jitted step called in a Python loop, scikit-learn's MLPClassifier, and a
PyTorch loop where torch is installed. All are measured in one run, turn by turn, compilation
left out; each figure is a median, each ratio one of medians.
"""

import dataclasses
import importlib.util
import itertools
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from fbp.config import MLP, Config, Data, LogGrid, Optimizer, Sweep, Train
from fbp.data import Split
from fbp.sweep.grid import grid_of, trials_of
from fbp.sweep.problem import Problem, problem_of
from fbp.sweep.program import make_program

BATCH, RATES, SEEDS = 32, LogGrid(1e-3, 0.3, 8), 4


@dataclasses.dataclass
class Arguments:
    """What to measure, and how often."""

    widths: tuple[int, ...] = (16, 128)
    steps: int = 195
    repetitions: int = 3


def config_of(width: int, steps: int) -> Config:
    """The sweep that all contenders run."""
    return Config(
        name="benchmark",
        data=Data("digits"),
        network=MLP((width,)),
        optimizer=Optimizer("sgd"),
        train=Train(steps, BATCH, steps),
        sweep=Sweep(RATES, SEEDS),
    )


def fbp_sweep(config: Config, problem: Problem) -> Callable[[], None]:
    """fbp: all trials in one compiled program, measured on the validation set at its end."""
    grid = grid_of(trials_of(config.sweep))
    program, steps = make_program(config, problem), config.train.steps
    training, validation = _arrays(problem.dataset.train), _arrays(problem.dataset.validation)
    states, _ = program.start(grid, validation)
    zero = jnp.zeros((), jnp.int32)
    step = program.advance.lower(states, grid, zero, training, validation, steps).compile()

    def run() -> None:
        states, _ = program.start(grid, validation)
        jax.block_until_ready(step(states, grid, zero, training, validation))

    return run


def python_loop(config: Config, problem: Problem) -> Callable[[], None]:
    """One jitted step, jax.grad's, called for each trial and step; the rate is an argument."""
    x, y = _arrays(problem.dataset.train)
    apply = problem.network.apply

    def loss_fn(params, batch):
        logits = apply(params, batch[0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    @jax.jit
    def step(params, index, rate):
        grads = jax.grad(loss_fn)(params, (x[index], y[index]))
        return jax.tree.map(lambda p, g: p - rate * g, params, grads)

    def run() -> None:
        for trial in trials_of(config.sweep):
            params, _ = problem.network.init(jax.random.key(trial.seed), problem.in_shape)
            for index in _batches(len(x), config.train.steps, trial.seed):
                params = step(params, index, trial.hyperparameters["learning_rate"])
            jax.block_until_ready(params)

    return run


def scikit_learn(config: Config, problem: Problem) -> Callable[[], None]:
    """MLPClassifier.fit, for as many epochs as the steps make."""
    from sklearn.neural_network import MLPClassifier

    train = problem.dataset.train
    epochs = config.train.steps // (len(train.x) // BATCH)

    def run() -> None:
        for trial in trials_of(config.sweep):
            MLPClassifier(
                _widths(config),
                solver="sgd",
                alpha=0.0,
                batch_size=BATCH,  # pyright: ignore[reportArgumentType]
                learning_rate_init=trial.hyperparameters["learning_rate"],
                momentum=0.0,
                random_state=trial.seed,
                max_iter=epochs,
                tol=0.0,
                n_iter_no_change=epochs,
            ).fit(train.x, train.y)

    return run


def pytorch(config: Config, problem: Problem) -> Callable[[], None]:
    """An eager PyTorch loop over the trials."""
    import torch  # pyright: ignore[reportMissingImports]

    x = torch.from_numpy(problem.dataset.train.x)
    y = torch.from_numpy(problem.dataset.train.y).long()
    sizes = (x.shape[1], *_widths(config), problem.dataset.classes)

    def run() -> None:
        for trial in trials_of(config.sweep):
            torch.manual_seed(trial.seed)
            layers: list[Any] = []
            for a, b in itertools.pairwise(sizes):
                layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
            model = torch.nn.Sequential(*layers[:-1])
            rate = trial.hyperparameters["learning_rate"]
            optimizer = torch.optim.SGD(model.parameters(), lr=rate)
            for index in _batches(len(x), config.train.steps, trial.seed):
                optimizer.zero_grad()
                batch = torch.from_numpy(index)
                torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()

    return run


CONTENDERS: dict[str, Callable[[Config, Problem], Callable[[], None]]] = {
    "fbp sweep": fbp_sweep,
    "jitted step in a Python loop": python_loop,
    "scikit-learn MLPClassifier": scikit_learn,
}
if importlib.util.find_spec("torch"):
    CONTENDERS["PyTorch loop"] = pytorch


def _widths(config: Config) -> tuple[int, ...]:
    assert isinstance(config.network, MLP)
    return config.network.widths


def _arrays(split: Split) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(split.x), jnp.asarray(split.y)


def _batches(rows: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, rows, BATCH) for _ in range(steps))


def measure(width: int, arguments: Arguments) -> dict[str, list[float]]:
    """Trial-steps per second of each contender, by repetition."""
    config = config_of(width, arguments.steps)
    problem = problem_of(config)
    runs = {name: make(config, problem) for name, make in CONTENDERS.items()}
    trial_steps = len(trials_of(config.sweep)) * arguments.steps
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(arguments.repetitions + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repetition > 0:
                rates[name].append(trial_steps / (time.perf_counter() - start))
    return rates


def main() -> None:
    """Print the table."""
    arguments = tyro.cli(Arguments, description=__doc__)
    warnings.filterwarnings("ignore", message=".*Maximum iterations.*")
    load = os.getloadavg()[0]
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, load {load:.1f} at the start")
    if "PyTorch loop" not in CONTENDERS:
        print("PyTorch is not installed: its loop is left out")
    for width in arguments.widths:
        rates = {n: statistics.median(r) for n, r in measure(width, arguments).items()}
        print(f"\nwidth {width:4}{'trial-steps/s':>34}{'fbp is':>12}")
        for name, rate in rates.items():
            print(f"  {name:32}{rate:>11,.0f}{rates['fbp sweep'] / rate:>11.1f}x")


if __name__ == "__main__":
    main()
