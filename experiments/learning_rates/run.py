"""Which learning rate trains a network best?

And how wide is the range of rates that do: a rate too small has not learnt when the steps are
over, one too large diverges. Each rate trains an MLP on scikit-learn's images of digits with
several seeds; the best one is chosen on validation rows and tested once on rows that chose
nothing. It is the sweep of configs/digits_mlp.toml, as `fbp sweep` runs it.

Source: a support vector machine reaches 0.97 on half of these images (scikit-learn's example
Recognizing hand-written digits).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fbp import cli
from fbp.errors import InputError
from fbp.laboratory import Check, Outcome
from fbp.laboratory.experiment import Cell
from fbp.report.run_directory import RecordedRun, read_run
from fbp.report.run_figures import draw_run

CONFIG = Path(__file__).parents[2] / "configs" / "digits_mlp.toml"


@dataclass(frozen=True)
class Settings:
    """What is set in the sweep's config, and the accuracy that is expected.

    Attributes:
      seeds: runs at each rate.
      settings: lines of TOML that replace keys of the config.
      expected: the test accuracy of the best rate, at least.
    """

    seeds: int
    settings: tuple[str, ...]
    expected: float


def run(settings: Settings) -> Outcome:
    """Run the sweep, and hold the test accuracy of its best rate against the expected one."""
    swept = _sweep(settings)
    best = swept.summary["best"]
    rate, accuracy = best["learning_rate"], best["test_accuracy"]["mean"]
    checks = (
        Check(
            f"test accuracy at the best rate, {rate:.3g}",
            "0.97 (support vector machine, scikit-learn's example)",
            accuracy,
            low=settings.expected,
        ),
    )
    figures = draw_run(swept.records, swept.summary)
    return Outcome(checks, tuple(_rows(swept.summary)), {"figure": figures["accuracy_by_rate"]})


def _sweep(settings: Settings) -> RecordedRun:
    with TemporaryDirectory() as directory:
        out = Path(directory) / "run"
        command = ["sweep", str(CONFIG), "--out", str(out), "--seeds", str(settings.seeds)]
        for line in settings.settings:
            command += ["--set", line]
        if status := cli.main(command):
            raise InputError(f"fbp sweep ended with status {status}: see its message")
        return read_run(out)


def _rows(summary: Mapping[str, Any]) -> Iterator[Mapping[str, Cell]]:
    for entry in summary["rates"]:
        yield {
            "learning rate": f"{entry['learning_rate']:.3g}",
            "validation accuracy": entry["validation_accuracy"]["mean"],
            "runs": entry["trials"],
            "diverged": entry["diverged"],
        }
