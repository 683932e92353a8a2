"""The first run of a sweep on a machine, beside the same sweep in each single way.

    python -m benchmarks.first_run [--mlp 16 128 512] [--cnn 16] [--seconds 10] [--repetitions 1]

The trials of `benchmarks.sweep` by `fbp.sweep.run`, measured five times on 256 examples: with
`trials = "auto"`, which chooses a way as it goes, and with each way by its name. There are so many
steps that the fastest way trains for about so many seconds on two cores. Each run is a process of
its own with an empty cache; the seconds are those of `run`: gradient check, choosing, compiling,
training, summary. Ways take turns; of several repetitions the medians count. With one it takes
ten minutes.
"""

import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from benchmarks.sweep import images
from benchmarks.throughput.work import BATCH, RATES, SEEDS, Kind, work_of

WAYS = "auto", "vmap", "map", "seed", "loop"
TRIAL_STEPS: dict[Kind, dict[int, int]] = {
    "mlp": {16: 14_000, 128: 3_200, 512: 600},
    "cnn": {16: 180},
}
"""A second's, in the fastest way on two cores (docs/performance.md)."""
EVALUATIONS, MEASURED = 5, 256
ASKED = 1.25
CHILD = "import sys; from benchmarks.first_run import time_run; time_run(*sys.argv[1:])"


@dataclass
class Arguments:
    """What to measure, and how often."""

    mlp: tuple[int, ...] = (16, 128, 512)
    """Widths of the MLP: 16, 128 or 512."""
    cnn: tuple[int, ...] = (16,)
    """Widths of the CNN: 16."""
    seconds: tuple[float, ...] = (10.0,)
    """About how long the fastest way trains."""
    repetitions: int = 1
    """Runs of each way."""


def main() -> None:
    """Print a row for each network and length."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print("| | training, s | auto, s | took | best single way, s | auto / best |")
    print("|---|---:|---:|---|---|---:|")
    sizes: dict[Kind, tuple[int, ...]] = {"mlp": arguments.mlp, "cnn": arguments.cnn}
    for kind, widths in sizes.items():
        for width, seconds in itertools.product(widths, arguments.seconds):
            print(_row(kind, width, seconds, arguments.repetitions), flush=True)


def _row(kind: Kind, width: int, seconds: float, repetitions: int) -> str:
    trials = len(RATES) * SEEDS
    steps = max(EVALUATIONS, round(seconds * TRIAL_STEPS[kind][width] / trials))
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    taken = set()
    for _, way in itertools.product(range(repetitions), WAYS):
        spent, took = _run(kind, width, steps, way)
        times[way].append(spent)
        if way == "auto":
            taken.add(took)
        print(f"  {kind} {width}, {steps} steps, {way}: {spent:.1f} s", file=sys.stderr, flush=True)
    medians = {way: statistics.median(times[way]) for way in WAYS}
    auto = medians.pop("auto")
    best = min(medians, key=lambda way: medians[way])
    ratio = auto / medians[best]
    name = f"{kind.upper()} {width}, {trials} x {steps} steps"
    verdict = "" if ratio <= ASKED else f" (asked {ASKED})"
    return (
        f"| {name} | {seconds:g} | {auto:.1f} | {', '.join(sorted(taken))} | "
        f"{medians[best]:.1f}, {best} | {ratio:.2f}{verdict} |"
    )


def _run(kind: Kind, width: int, steps: int, way: str) -> tuple[float, str]:
    """Run a sweep in a process of its own; return its seconds and the way that it took."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        command = [sys.executable, "-c", CHILD, kind, str(width), str(steps), way, folder]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds, took = done.stdout.splitlines()[-1].split()
    return float(seconds), took


def time_run(kind: Kind, width: str, steps: str, way: str, folder: str) -> None:
    """Run a sweep; print its seconds and the way that it took."""
    import optax

    from benchmarks.throughput.fbp_sweep import problem_of
    from fbp.commands.backend import use_every_core
    from fbp.records import read_environment
    from fbp.sweep import run

    use_every_core()
    work = work_of(kind, int(width), 1, *images()[1:])
    problem = replace(problem_of(work, MEASURED), optimizer=optax.adam)
    every = math.ceil(int(steps) / EVALUATIONS)
    train = {"steps": int(steps), "batch_size": BATCH, "evaluate_every": every}
    sweep = {"learning_rate": list(RATES), "seeds": SEEDS, "trials": way}
    begin = time.perf_counter()
    run(problem, out=Path(folder) / "run", train=train, sweep=sweep)
    seconds = time.perf_counter() - begin
    (choice,) = read_environment(Path(folder) / "run")["trials"].values()
    print(seconds, choice["kind"])


if __name__ == "__main__":
    main()
