"""fbp on the device that JAX finds: a CPU, a GPU or a TPU.

    python -m benchmarks.accelerator [--out accelerator.json] [--parts rules ...] [--repeats 5]
        [--families calls products ...] [--small]

- rules: the cases of tests/autodiff/rules on the device, beside JAX's results
- gradients: the programs of benchmarks.gradients, as ratios to jax.grad
- steps: a large MLP and transformer in float32 and bfloat16, and their share of the peak
- sweep: 8 rates x 32 seeds of an MLP of width 128, beside what benchmarks.sweep has

All is written to one JSON file as it is measured, and printed as tables in Markdown.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.accelerator import rules, steps, words
from benchmarks.accelerator.device import Device, measure_device
from benchmarks.programs import PROGRAMS
from benchmarks.sweep import images, say
from benchmarks.throughput.measure import measure
from benchmarks.throughput.words import table, verdicts
from benchmarks.throughput.work import work_of
from fbp.records import to_json

Part = Literal["rules", "gradients", "steps", "sweep"]


@dataclasses.dataclass
class Arguments:
    """What to measure, and where to write it."""

    out: Path = Path("accelerator.json")
    """The JSON file."""
    parts: tuple[Part, ...] = ("steps", "gradients", "sweep", "rules")
    """What to measure, in this order."""
    repeats: int = 5
    """How often each gradient is compiled."""
    families: tuple[str, ...] = ()
    """Of the rules, by default all: they may be divided over processes."""
    small: bool = False
    """Sizes that only show that all works."""


def main() -> None:
    """Measure, print and write."""
    arguments = tyro.cli(Arguments, description=__doc__)
    device = measure_device(64 if arguments.small else 8192)
    results: dict[str, Any] = {"device": dataclasses.asdict(device)}
    print(words.device(device), flush=True)
    for part in arguments.parts:
        results[part] = {}
        PARTS[part](device, arguments, results[part])
        arguments.out.write_text(to_json(results) + "\n", encoding="utf-8")


def _rules(_: Device, arguments: Arguments, results: dict[str, Any]) -> None:
    only = arguments.families or (("products",) if arguments.small else ())
    print(words.RULES)
    for name, dtype, family in rules.families(only):
        results[f"{name} {dtype}"] = dataclasses.asdict(family)
        print(words.rules_row(name, dtype, family), flush=True)


def _gradients(device: Device, arguments: Arguments, results: dict[str, Any]) -> None:
    small = arguments.small
    print(words.GRADIENTS)
    for name in ("mlp",) if small else PROGRAMS:
        try:
            results[name] = steps.ratios(name, arguments.repeats, small, device)
            print(words.gradients_row(name, results[name]), flush=True)
        except Exception as error:  # one program that a device cannot run is one line
            results[name] = f"{type(error).__name__}: {error}"
            print(words.row(name, results[name].splitlines()[0][:80]), flush=True)
    if not small:
        print(words.gradients_mean([r for r in results.values() if isinstance(r, dict)]))


def _steps(device: Device, arguments: Arguments, results: dict[str, Any]) -> None:
    print(words.STEPS)
    for name, subject in steps.large(arguments.small).items():
        for dtype in ("float32", "bfloat16"):
            step = steps.step(subject, dtype, device)
            results[f"{name} {dtype}"] = dataclasses.asdict(step)
            print(words.steps_row(name, dtype, step), flush=True)


def _sweep(_: Device, arguments: Arguments, results: dict[str, Any]) -> None:
    small = arguments.small
    name, x, y = images()
    work = work_of("mlp", *((16, 2) if small else (128, 128)), x, y, seeds=2 if small else 32)
    measured = measure(work, 1 if small else 3, say=say)
    title = f"{name}, MLP of width {work.width}, {len(work.trials)} trials x {work.steps} steps"
    print(f"\n## Sweep: {title}\n\n{table(measured)}\n", *verdicts(measured), sep="\n", flush=True)
    results |= {speed.contender.name: speed.rate for speed in measured.speeds}


PARTS: dict[Part, Callable[[Device, Arguments, dict[str, Any]], None]] = {
    "rules": _rules,
    "gradients": _gradients,
    "steps": _steps,
    "sweep": _sweep,
}

if __name__ == "__main__":
    sys.exit(main())
