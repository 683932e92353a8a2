"""A sweep in parts beside the same sweep in one process: trial-steps a second, compiling, records.

    python -m benchmarks.divided [--parts 16] [--seconds 5]

16 rates x 2 seeds of an MLP on the digits, as 16 parts. This process trains all of them, and beside
it each is trained by a process of its own. The two take turns: from one evaluation to the next the
one trains and the other waits, and which goes first changes each time. The stretch before the first
evaluation, in which the program is compiled, does not count. A part's ratio is the geometric mean,
over its stretches, of the trial-steps a second in its own process over those in this one: of the
clock, and of the processor's time, which other work on the machine disturbs less. The mean over
parts is printed with its 95 % interval (of t), and whether that is within 5 % of 1. Both runs are
merged, and their records compared byte by byte.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import stats

WITHIN = 0.05
EVALUATIONS = 12
TEXT = """
name = "divided"
data = {{ name = "digits" }}
network = {{ kind = "mlp", widths = [64] }}
optimizer = {{ name = "adam" }}
train = {{ steps = {steps}, batch_size = 64, evaluate_every = {every} }}
[sweep]
learning_rate = {{ low = 1e-4, high = 1e-2, count = 16 }}
seeds = 2
trials = "map"
"""
CHILD = "import sys; from benchmarks.divided import train_in_turn; train_in_turn(*sys.argv[1:])"


@dataclass
class Arguments:
    """What to measure, and for how long."""

    parts: int = 16
    """How many parts."""
    seconds: float = 5.0
    """About how long a part trains."""


Times = list[tuple[float, float]]
"""Of each stretch after the first, seconds of the clock and of the processor."""


def main() -> None:
    """Measure, and print what the module says."""
    from fbp.commands.backend import use_every_core
    from fbp.sweep import merge

    arguments = tyro.cli(Arguments, description=__doc__)
    use_every_core()
    with tempfile.TemporaryDirectory() as folder:
        steps = _steps(Path(folder) / "first", arguments)
        config = _config(Path(folder) / "both", steps)
        here, apart = config.with_name("here"), config.with_name("apart")
        measured = []
        for number in range(arguments.parts):
            measured.append(_in_turn(config, here, apart, f"{number}/{arguments.parts}"))
            clock, processor = (np.exp(np.mean(logs)) for logs in _logs(*measured[-1][0]))
            told = f"part {number}: clock {clock:.3f}, processor {processor:.3f}"
            print(f"  {told}", file=sys.stderr, flush=True)
        for run in (here, apart):
            merge(run)
        same = _records(here) == _records(apart)
    print(f"{arguments.parts} parts, {steps:,} steps of each of 32 trials")
    print(f"{_verdict(measured)}\nrecords: {'the same' if same else 'DIFFER'}")


def trained(
    config: Path, out: Path, part: str, turn: Callable[[int, Callable[[], Any]], Any]
) -> tuple[Times, float]:
    """Train a part in this process; return the times of its stretches, and of compiling.

    `turn` is called with the number of each stretch and what trains it.
    """
    from fbp.sweep import run
    from fbp.sweep.runner import Runner

    times: Times = []
    advance = Runner.advance

    def timed(*args: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        outcome = advance(*args)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
        return outcome

    number = itertools.count()
    replaced: Any = lambda *args: turn(next(number), lambda: timed(*args))
    Runner.advance = replaced
    try:
        facts = run(config, out=out, part=part)
    finally:
        Runner.advance = advance
    return times[1:], facts["compile_seconds"]


def train_in_turn(config: str, out: str, part: str) -> None:
    """Train a part in a process of its own: a stretch for each line read, answered by one."""
    from fbp.commands.backend import use_every_core

    use_every_core()

    def turn(_: int, train: Callable[[], Any]) -> Any:
        sys.stdin.readline()
        outcome = train()
        print("done", flush=True)
        return outcome

    print(json.dumps(trained(Path(config), Path(out), part, turn)))


def _in_turn(config: Path, here: Path, apart: Path, part: str) -> tuple[tuple[Times, Times], Any]:
    """Train a part here and in a process of its own; return the times of both, and compiling."""
    command = [sys.executable, "-c", CHILD, str(config), str(apart), part]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        ask, answers = child.stdin, child.stdout

        def other() -> None:
            print("train", file=ask, flush=True)
            while answers.readline() != "done\n":
                assert child.poll() is None, "the part's process ended"

        def turn(number: int, train: Callable[[], Any]) -> Any:
            if number % 2:
                other()
                return train()
            outcome = train()
            other()
            return outcome

        of_one, compiling = trained(config, here, part, turn)
        of_part, other_compiling = json.loads(answers.read().splitlines()[-1])
    return (of_one, of_part), (compiling, other_compiling)


def _steps(folder: Path, arguments: Arguments) -> int:
    """Return how many steps of a trial take about as long as asked."""
    config = _config(folder, 50 * EVALUATIONS)
    times, _ = trained(config, folder / "run", f"0/{arguments.parts}", lambda _, train: train())
    each = float(np.median([wall for wall, _ in times])) / 50
    return max(50, int(arguments.seconds / each / EVALUATIONS)) * EVALUATIONS


def _config(folder: Path, steps: int) -> Path:
    folder.mkdir(parents=True)
    path = folder / "divided.toml"
    path.write_text(TEXT.format(steps=steps, every=steps // EVALUATIONS))
    return path


def _records(run: Path) -> bytes:
    return (run / "records.jsonl").read_bytes()


def _logs(of_one: Times, of_part: Times) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithms of the ratios of speeds, of the clock and of the processor."""
    clock, processor = np.log(np.array(of_one) / np.array(of_part)).T
    return clock, processor


def _verdict(measured: list[Any]) -> str:
    """Format the mean ratios with their intervals, and what was compiled."""
    lines = []
    logs = np.array([[ratios.mean() for ratios in _logs(*times)] for times, _ in measured])
    for name, of_parts in zip(("the clock", "the processor's time"), logs.T, strict=True):
        mean, low, high = interval(of_parts)
        within = "within" if low >= 1 - WITHIN and high <= 1 + WITHIN else "not shown to be within"
        lines.append(
            f"trial-steps a second of {name}, in parts over in one process: {mean:.3f}, "
            f"95 % interval {low:.3f} to {high:.3f}: {within} 5 %"
        )
    of_one, of_parts = zip(*(compiling for _, compiling in measured), strict=True)
    each = ", ".join(f"{seconds:.1f}" for seconds in of_parts)
    lines.append(
        f"compiling: {sum(of_one):.1f} s in one process, {sum(of_parts):.1f} s in parts ({each})"
    )
    return "\n".join(lines)


def interval(logs: np.ndarray) -> tuple[float, float, float]:
    """Return the geometric mean of ratios, from their logarithms, and its 95 % interval."""
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    return float(mean), float(low), float(high)


if __name__ == "__main__":
    main()
