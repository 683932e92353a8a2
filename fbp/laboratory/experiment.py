"""The parts of an experiment, and its outcome.

An experiment is a folder `experiments/NAME` with

- `run.py`: its docstring begins with the question; a frozen dataclass `Settings`; and
  `run(settings) -> Outcome`;
- `config.toml`: the settings of the full run; its table `[quick]` holds what the quick run
  changes;
- `README.md`: the question, the source, the method, and the result;
- `result.json`, `result.md` and the figures: what the full run wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from matplotlib.figure import Figure

Cell = float | int | str | None


@dataclass(frozen=True)
class Check:
    """A measured number held against a band.

    Attributes:
      quantity: what is measured, with its unit.
      published: the number that others published, as text, with its source.
      measured: the number found here.
      low, high: the band that it has to lie in; infinite where there is no bound.

    >>> check = Check("sharpness x rate / 2", "1 (Cohen et al. 2021)", 1.02, 0.98, 1.10)
    >>> check.passed, check.band
    (True, '0.98 to 1.1')
    """

    quantity: str
    published: str
    measured: float
    low: float = -float("inf")
    high: float = float("inf")

    @property
    def passed(self) -> bool:
        """Whether the number lies in the band; NaN does not."""
        return self.low <= self.measured <= self.high

    @property
    def band(self) -> str:
        """The band in words."""
        low, high = f"{self.low:.4g}", f"{self.high:.4g}"
        if self.low == -float("inf"):
            return f"at most {high}"
        return f"at least {low}" if self.high == float("inf") else f"{low} to {high}"


@dataclass(frozen=True)
class Outcome:
    """The outcome of an experiment.

    Attributes:
      checks: the numbers that are held against published ones.
      rows: a small table, one mapping from column to cell a row.
      figures: pictures by name; `figure` is the one that the README shows.

    >>> outcome = Outcome((Check("accuracy", "0.9", 0.91, low=0.9),))
    >>> all(check.passed for check in outcome.checks)
    True
    """

    checks: tuple[Check, ...]
    rows: tuple[Mapping[str, Cell], ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
