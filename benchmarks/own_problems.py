"""Trial-steps per second of a caller's own network, beside the same one built by fbp.

    python -m benchmarks.own_problems [--mlp 16 128 512] [--steps N] [--repetitions 9]

The MLP of `benchmarks.sweep`, with its data, batches, trials and Adam, as a sweep of the layers of
`fbp.nn` and as one of a `Problem`: a plain function, Flax Linen, Flax nnx, Equinox, Haiku. All run
in the way that is measured to be the fastest for fbp's layers, in one process, turn by turn; a run
draws the parameters and trains. Libraries that are not installed are named.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
import tyro

from benchmarks.sweep import images, steps_of
from benchmarks.throughput import hand_written
from benchmarks.throughput.fbp_sweep import config_of, problem_of, run_of
from benchmarks.throughput.work import CLASSES, Work, work_of
from fbp.sweep import Problem
from fbp.sweep.autotuning import autotune
from fbp.sweep.study import studies_of

ASKED = 0.95
Network = tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]
"""`init(key) -> params`, and `forward(params, x) -> logits`."""


@dataclass
class Arguments:
    """What to measure, and how often."""

    mlp: tuple[int, ...] = (16, 128, 512)
    """Widths of the MLP."""
    steps: int | None = None
    """Steps of each trial; by default the fewer the wider the network."""
    repetitions: int = 9
    """Runs of each after its first."""


def main() -> None:
    """Print a table for each width."""
    arguments = tyro.cli(Arguments, description=__doc__)
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    _, x, y = images()
    for width in arguments.mlp:
        work = work_of("mlp", width, arguments.steps or steps_of("mlp", width), x, y)
        (study,) = studies_of(config_of(work), problem_of(work))
        parallelism, _ = autotune(study)
        runs = {"fbp.nn": run_of(work, study, parallelism)[0]}
        missing = []
        for name, make in NETWORKS.items():
            try:
                problem = _problem(work, *make(work))
            except ModuleNotFoundError:
                missing.append(name)
                continue
            (own,) = studies_of(config_of(work), problem)
            runs[name] = run_of(work, own, parallelism)[0]
        rates = _rates(work, runs, arguments.repetitions)
        print(f"\n## Width {width}: {len(work.trials)} x {work.steps} steps, {parallelism.kind}\n")
        print("\n".join(_table(rates, missing)), flush=True)


def _problem(work: Work, init: Callable[[Any], Any], forward: Callable[[Any, Any], Any]) -> Problem:
    def loss(params: Any, batch: Any, _: Any) -> Any:
        logits = forward(params, batch[0])
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    data = {"train": (work.x, work.y), "validation": (work.x[:1], work.y[:1])}
    return Problem(data, init, loss, optimizer=optax.adam, metric="loss")


def _plain(work: Work) -> Network:
    def forward(params: Any, x: Any) -> Any:
        hidden = jax.nn.relu(x @ params["hidden"]["w"] + params["hidden"]["b"])
        return hidden @ params["out"]["w"] + params["out"]["b"]

    return lambda key: hand_written.parameters(work, key), forward


def _linen(work: Work) -> Network:
    from flax import linen  # pyright: ignore[reportMissingImports]

    model = linen.Sequential([linen.Dense(work.hidden), linen.relu, linen.Dense(CLASSES)])
    return lambda key: model.init(key, jnp.zeros((1, work.features))), model.apply


def _nnx(work: Work) -> Network:
    from flax import nnx  # pyright: ignore[reportMissingImports]

    def make(key: Any) -> Any:
        rngs = nnx.Rngs(key)
        hidden = nnx.Linear(work.features, work.hidden, rngs=rngs)
        return nnx.Sequential(hidden, nnx.relu, nnx.Linear(work.hidden, CLASSES, rngs=rngs))

    graph = nnx.split(make(0))[0]
    return lambda key: nnx.split(make(key))[1], lambda params, x: nnx.merge(graph, params)(x)


def _equinox(work: Work) -> Network:
    import equinox  # pyright: ignore[reportMissingImports]

    make = lambda key: equinox.nn.MLP(work.features, CLASSES, work.hidden, 1, key=key)
    static = equinox.filter(make(jax.random.key(0)), equinox.is_inexact_array, inverse=True)
    init = lambda key: equinox.filter(make(key), equinox.is_inexact_array)
    return init, lambda params, x: jax.vmap(equinox.combine(params, static))(x)


def _haiku(work: Work) -> Network:
    import haiku  # pyright: ignore[reportMissingImports]

    model = haiku.transform(lambda x: haiku.nets.MLP([work.hidden, CLASSES])(x))
    init = lambda key: model.init(key, jnp.zeros((1, work.features)))
    return init, lambda params, x: model.apply(params, None, x)


NETWORKS: dict[str, Callable[[Work], Network]] = {
    "a plain function": _plain,
    "Flax Linen": _linen,
    "Flax nnx": _nnx,
    "Equinox": _equinox,
    "Haiku": _haiku,
}


def _rates(
    work: Work, runs: dict[str, Callable[[], Any]], repetitions: int
) -> dict[str, list[float]]:
    """Return the trial-steps per second of each run after its first, turn by turn."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(repetitions + 1):
        print(f"  width {work.width}, round {repetition}", file=sys.stderr, flush=True)
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            rate = work.steps * len(work.trials) / (time.perf_counter() - begin)
            if repetition:
                rates[name].append(rate)
    return rates


def _table(rates: dict[str, list[float]], missing: list[str]) -> list[str]:
    """Return a row for each network: its median, and the median of its ratios to fbp's layers."""
    lines = ["| | trial-steps/s | of fbp.nn's | |", "|---|---:|---:|---|"]
    for name, own in rates.items():
        pairs = zip(own, rates["fbp.nn"], strict=True)
        ratio = statistics.median(rate / built_in for rate, built_in in pairs)
        verdict = "" if ratio >= ASKED else f"asked {ASKED}"
        lines.append(f"| {name} | {statistics.median(own):,.0f} | {ratio:.2f} | {verdict} |")
    return [*lines, *(f"| {name} | not installed | | |" for name in missing)]


if __name__ == "__main__":
    main()
