"""A sweep in parts beside the same sweep in one process: trial-steps a second, compiling, records.

    python -m benchmarks.divided [--parts 16] [--rounds 1] [--seconds 5]

16 rates x 2 seeds of an MLP on the digits, as 16 parts. Part after part is trained twice: by this
process, which trains all of them, and by a process of its own (`fbp sweep --part i/16`); which of
the two goes first changes from part to part. A pair's ratio is the part's trial-steps a second,
compiling left out, over those of one process. The geometric mean of the ratios is printed with its
95 % interval (of t, over the pairs), and whether it is within 5 % of 1. Both runs are merged, and
their records compared byte by byte.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy import stats

WITHIN = 0.05
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


@dataclass
class Arguments:
    """What to measure, and for how long."""

    parts: int = 16
    """How many parts."""
    rounds: int = 1
    """How often all parts are trained."""
    seconds: float = 5.0
    """About how long a part trains."""


def main() -> None:
    """Measure, and print what the module says."""
    arguments = tyro.cli(Arguments, description=__doc__)
    from fbp.commands.backend import use_every_core

    use_every_core()
    pairs: list[tuple[Any, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        steps = _steps(Path(folder) / "trial", arguments.seconds, arguments.parts)
        for number in range(arguments.rounds):
            measured, same = _round(Path(folder) / str(number), steps, arguments.parts)
            pairs += measured
            print(f"round {number}: records {'the same' if same else 'DIFFER'}", flush=True)
    print(_verdict(pairs))


def _round(folder: Path, steps: int, parts: int) -> tuple[list[tuple[Any, Any]], bool]:
    """Train every part here and in a process of its own; compare the merged records."""
    from fbp.sweep import merge

    config = _config(folder, steps)
    here, apart = folder / "here", folder / "apart"
    pairs = []
    for part in range(parts):
        train = [_train_here, _train_apart]
        order = train if part % 2 == 0 else train[::-1]
        facts = {
            run: run(config, here if run is _train_here else apart, part, parts) for run in order
        }
        pairs.append((facts[_train_here], facts[_train_apart]))
        print(f"  part {part}: ratio {_ratio(*pairs[-1]):.3f}", file=sys.stderr, flush=True)
    for run in (here, apart):
        merge(run)
    return pairs, _records(here) == _records(apart)


def _train_here(config: Path, out: Path, part: int, parts: int) -> dict[str, Any]:
    from fbp.sweep import run

    return run(config, out=out, part=f"{part}/{parts}")


def _train_apart(config: Path, out: Path, part: int, parts: int) -> dict[str, Any]:
    from fbp.records import read_part
    from fbp.sweep.part import part_directory

    command = ["sweep", str(config), "--out", str(out), "--part", f"{part}/{parts}"]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    subprocess.run(
        [sys.executable, "-m", "fbp", *command], check=True, capture_output=True, env=environment
    )
    return read_part(part_directory(out, part))


def _steps(folder: Path, seconds: float, parts: int) -> int:
    """Return how many steps of each trial take about so many seconds a part."""
    facts = _train_here(_config(folder, 2000), folder / "run", 0, parts)
    return max(2000, int(2000 * seconds / facts["training_seconds"]) // 1000 * 1000)


def _config(folder: Path, steps: int) -> Path:
    folder.mkdir(parents=True)
    path = folder / "divided.toml"
    path.write_text(TEXT.format(steps=steps, every=steps // 2))
    return path


def _records(run: Path) -> bytes:
    return (run / "records.jsonl").read_bytes()


def _speed(facts: dict[str, Any]) -> float:
    return facts["trial_steps"] / facts["training_seconds"]


def _ratio(here: dict[str, Any], apart: dict[str, Any]) -> float:
    return _speed(apart) / _speed(here)


def _verdict(pairs: list[tuple[Any, Any]]) -> str:
    """Format the mean ratio with its interval, and what was compiled."""
    logs = np.log([_ratio(*pair) for pair in pairs])
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    mean, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    compiled = [[facts["compile_seconds"] for facts in side] for side in zip(*pairs, strict=True)]
    speeds = [
        float(np.median([_speed(facts) for facts in side])) for side in zip(*pairs, strict=True)
    ]
    of_parts = ", ".join(f"{seconds:.1f}" for seconds in compiled[1])
    within = "within" if low >= 1 - WITHIN and high <= 1 + WITHIN else "not shown to be within"
    return (
        f"trial-steps a second, compiling left out: {speeds[0]:,.0f} in one process, "
        f"{speeds[1]:,.0f} in parts (medians)\n"
        f"ratio over {len(pairs)} pairs: {mean:.3f}, 95 % interval {low:.3f} to {high:.3f}: "
        f"{within} 5 %\n"
        f"compiling: {sum(compiled[0]):.1f} s in one process, {sum(compiled[1]):.1f} s in parts, "
        f"one after another ({of_parts})"
    )


if __name__ == "__main__":
    main()
