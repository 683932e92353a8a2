"""What a run measures: which of it trials are compared by, and which of it is shown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Measures:
    """What a run measures.

    Attributes:
      task: `classification`, `regression` or `other`.
      metric: what trials are compared by on the validation set.
      higher_is_better: whether a higher value of it is better.
      score: what is shown beside the loss; None where there is nothing else.
      columns: all measured columns of the records.

    >>> measures_of({"task": "regression", "metric": "r2"}).higher_is_better
    True
    """

    task: str
    metric: str
    higher_is_better: bool
    score: str | None
    columns: tuple[str, ...]

    @property
    def failure(self) -> float:
        """What a diverged trial counts as, turned so that more is better."""
        return 0.0 if self.metric == "accuracy" else -float("inf")

    def facts(self) -> dict[str, Any]:
        """Return what the environment and the summary of a run say of it."""
        return {**asdict(self), "columns": list(self.columns)}


def measures_of(facts: Mapping[str, Any]) -> Measures:
    """Return what a summary says of a run's measures; what it leaves out follows from its task."""
    task, metric = facts["task"], facts["metric"]
    score = facts.get("score", "r2" if task == "regression" else "accuracy")
    higher = facts.get("higher_is_better", metric != "loss")
    columns = facts.get("columns", ("loss",) if score is None else ("loss", score))
    return Measures(task, metric, higher, score, tuple(columns))
