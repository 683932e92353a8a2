"""A sweep in parts beside the same sweep in one process: trial-steps a second, compiling, records.

    python -m benchmarks.divided [--parts 16] [--rounds 1] [--seconds 5]

16 rates x 2 seeds of an MLP on the digits, as 16 parts. Part after part is trained twice: by this
process, which trains all of them, and by a process of its own; which of the two goes first changes
from part to part. What is timed is training between evaluations, the first excepted, before which
the program is compiled. A pair's ratio is the part's trial-steps a second over those of one
process: of the clock, and of the processor's time, which other work on the machine disturbs less.
Their geometric means are printed with 95 % intervals (of t, over the pairs), and whether these are
within 5 % of 1. Both runs are merged, and their records compared byte by byte.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from scipy import stats

WITHIN = 0.05
EVALUATIONS = 6
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
CHILD = "import sys; from benchmarks.divided import train_and_print; train_and_print(*sys.argv[1:])"


@dataclass
class Arguments:
    """What to measure, and for how long."""

    parts: int = 16
    """How many parts."""
    rounds: int = 1
    """How often all parts are trained."""
    seconds: float = 5.0
    """About how long a part trains."""


@dataclass(frozen=True)
class Speed:
    """What a part took after its first evaluation, and its compiling.

    Attributes:
      wall, cpu: trial-steps a second, of the clock and of the processor's time.
      compiling: seconds.
    """

    wall: float
    cpu: float
    compiling: float


def main() -> None:
    """Measure, and print what the module says."""
    arguments = tyro.cli(Arguments, description=__doc__)
    pairs: list[tuple[Speed, Speed]] = []
    with tempfile.TemporaryDirectory() as folder:
        first = _config(Path(folder) / "first", 600)
        speed = trained(first, first.with_name("run"), f"0/{arguments.parts}")
        steps = int(speed.wall * arguments.seconds * arguments.parts / 32)
        steps = max(600, steps // EVALUATIONS * EVALUATIONS)
        for number in range(arguments.rounds):
            measured, same = _round(Path(folder) / str(number), steps, arguments.parts)
            pairs += measured
            print(f"round {number}: records {'the same' if same else 'DIFFER'}", flush=True)
    print(f"{arguments.parts} parts, {steps:,} steps of each of 32 trials\n{_verdict(pairs)}")


def trained(config: Path, out: Path, part: str) -> Speed:
    """Train a part in this process, and time it between evaluations."""
    from fbp.commands.backend import use_every_core
    from fbp.sweep import run
    from fbp.sweep.runner import Runner

    use_every_core()
    times: list[tuple[float, float, int]] = []
    advance = Runner.advance

    def timed(runner, variant, trials, states, start, stop):
        wall, cpu = time.perf_counter(), time.process_time()
        outcome = advance(runner, variant, trials, states, start, stop)
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        if start > 0:
            times.append((*seconds, (stop - start) * len(trials)))
        return outcome

    Runner.advance = timed
    try:
        facts = run(config, out=out, part=part)
    finally:
        Runner.advance = advance
    wall, cpu, steps = map(sum, zip(*times, strict=True))
    return Speed(steps / wall, steps / cpu, facts["compile_seconds"])


def train_and_print(config: str, out: str, part: str) -> None:
    """Train a part in a process of its own: print its speed."""
    print(json.dumps(vars(trained(Path(config), Path(out), part))))


def _apart(config: Path, out: Path, part: str) -> Speed:
    command = [sys.executable, "-c", CHILD, str(config), str(out), part]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def _round(folder: Path, steps: int, parts: int) -> tuple[list[tuple[Speed, Speed]], bool]:
    """Train every part here and in a process of its own; compare the merged records."""
    from fbp.sweep import merge

    config, here, apart = _config(folder, steps), folder / "here", folder / "apart"
    pairs = []
    for number in range(parts):
        part = f"{number}/{parts}"
        if number % 2:
            pairs.append((trained(config, here, part), _apart(config, apart, part)))
        else:
            pairs.append((_apart(config, apart, part), trained(config, here, part))[::-1])
        one, other = pairs[-1]
        ratios = f"clock {other.wall / one.wall:.3f}, processor {other.cpu / one.cpu:.3f}"
        print(f"  part {part}: {ratios}", file=sys.stderr, flush=True)
    for run in (here, apart):
        merge(run)
    return pairs, _records(here) == _records(apart)


def _config(folder: Path, steps: int) -> Path:
    folder.mkdir(parents=True)
    path = folder / "divided.toml"
    path.write_text(TEXT.format(steps=steps, every=steps // EVALUATIONS))
    return path


def _records(run: Path) -> bytes:
    return (run / "records.jsonl").read_bytes()


def _verdict(pairs: list[tuple[Speed, Speed]]) -> str:
    """Format the mean ratios with their intervals, and what was compiled."""
    lines = []
    for name, unit in (("wall", "of the clock"), ("cpu", "of the processor's time")):
        one, other = (
            np.array([getattr(speed, name) for speed in side]) for side in zip(*pairs, strict=True)
        )
        mean, low, high = interval(np.log(other / one))
        within = "within" if low >= 1 - WITHIN and high <= 1 + WITHIN else "not shown to be within"
        lines += [
            f"trial-steps a second {unit}: {np.median(one):,.0f} in one process, "
            f"{np.median(other):,.0f} in parts (medians)",
            f"  ratio over {len(pairs)} pairs {mean:.3f}, 95 % interval {low:.3f} to {high:.3f}: "
            f"{within} 5 %",
        ]
    of_one, of_parts = ([speed.compiling for speed in side] for side in zip(*pairs, strict=True))
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
