"""Which learning rate trains a network best? On digits with an MLP, on clothes with a CNN.

    python experiments/learning_rates/run.py [--only digits_mlp fashion_cnn] [--out runs]

Runs the configs of those names, writes each report, and compares the winner's test accuracy
with the expected one. Exit code 1 if a number is below it, 2 for bad input.
"""

import dataclasses
import json
import sys
from pathlib import Path

import tyro

from fbp import cli

CONFIGS = Path(__file__).parents[2] / "configs"
EXPECTED = {"digits_mlp": 0.97, "fashion_cnn": 0.80}
"""The least test accuracy of the best rate."""


@dataclasses.dataclass
class Arguments:
    """Which experiments to run, and where their runs go."""

    only: tuple[str, ...] = tuple(EXPECTED)
    out: Path = Path("runs")


def run(name: str, out: Path) -> int:
    """One sweep, its report, and its check; an exit code."""
    directory = out / name
    for command in (
        ["sweep", str(CONFIGS / f"{name}.toml"), "--out", str(directory), "--overwrite"],
        ["report", str(directory)],
    ):
        code = cli.main(command)
        if code:
            return code
    best = json.loads((directory / "summary.json").read_text())["best"]
    accuracy = best["test_accuracy"]["mean"]
    reached = accuracy >= EXPECTED[name]
    print(
        f"{name}: learning rate {best['learning_rate']:.3g}, test accuracy {accuracy:.4f}, "
        f"expected at least {EXPECTED[name]}: {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


def main() -> int:
    """Run them; the largest exit code."""
    arguments = tyro.cli(Arguments, description=__doc__)
    unknown = sorted(set(arguments.only) - set(EXPECTED))
    if unknown:
        print(f"no experiment {unknown[0]}: there are {', '.join(EXPECTED)}", file=sys.stderr)
        return 2
    return max(run(name, arguments.out) for name in arguments.only)


if __name__ == "__main__":
    sys.exit(main())
