"""Claim that one run trained better than another, only where its seeds tell.

A run chose its best setting among many by the very seeds that it then reports, which makes the
winner look better than it is. Here the first fifth of the seeds choose the setting, and the others
are compared: no seed takes part in its own tuning.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from fbp.report.comparison import Contestant
from fbp.report.measures import Measures, measures_of
from fbp.report.significance import (
    LEVEL,
    POWER,
    Difference,
    Scores,
    fewest_seeds,
    holm,
    rank_difference,
    seeds_to_tell,
)
from fbp.report.summary import first_step, ranking
from fbp.report.text import SCORES, number_text
from fbp.report.trials import TrialHistory, settings, trials

TUNING = 5  # one seed in so many chooses: 5 of 25 leave the power of 20
RULE = (
    "The first fifth of a run's seeds choose its setting on the validation set, the other seeds "
    "are compared: on the test set where they were tested at this setting, else on the validation "
    "set; a run of one setting is compared by all of its seeds. A claim stands where the means and "
    "the ranks differ, each with a two-sided p of at most 5%, within each seed where both runs "
    "have the same ones, corrected by Holm's method for all comparisons made. A failed trial, or "
    "one that never reaches the target, is the lowest rank."
)


@dataclass(frozen=True)
class Entrant:
    """A run as claims see it.

    Attributes:
      name: its name in the comparison.
      trials: all of its trials.
      measures: what they are compared by.
      target: the value of the metric that counts as reached, or None.
      at_edge: whether its best rate lies at the edge of its grid.
    """

    name: str
    trials: tuple[TrialHistory, ...]
    measures: Measures
    target: float | None
    at_edge: bool


@dataclass(frozen=True)
class Claim:
    """What the seeds say of two runs.

    Attributes:
      first: the run of the better mean rank.
      second: the other one.
      measure: what they are compared by.
      p_value: of a two-sided test, corrected for the number of comparisons.
      difference: the test before the correction.
      seeds_needed: how many seeds of each would tell a difference as large as this one; None
        where none was seen, or where it takes more than 1,000.
      reservations: what the reader must know before believing it.
    """

    first: str
    second: str
    measure: str
    p_value: float
    difference: Difference
    seeds_needed: int | None
    reservations: tuple[str, ...]

    @property
    def stands(self) -> bool:
        """Whether the two can be told apart."""
        return self.p_value <= LEVEL

    def __str__(self) -> str:
        """Say it in a sentence or two, with what is reserved."""
        how = f"p = {self.p_value:.2g}, {_seeds(self.difference)}"
        if self.stands:
            text = f"{self.first} beats {self.second} on {self.measure} ({how})."
        else:
            text = (
                f"{self.first} and {self.second} cannot be told apart on {self.measure} ({how}): "
                f"{self._more_seeds()}."
            )
        return " ".join([text, *self.reservations])

    def facts(self) -> dict[str, Any]:
        """Return the claim as JSON has it."""
        return {
            "first": self.first,
            "second": self.second,
            "measure": self.measure,
            "stands": self.stands,
            "p_value": self.p_value,
            "seeds": list(self.difference.sizes),
            "paired": self.difference.paired,
            "seeds_needed": self.seeds_needed,
            "reservations": list(self.reservations),
        }

    def _more_seeds(self) -> str:
        if self.difference.least_p_value > LEVEL:
            least = fewest_seeds(self.difference.paired)
            return f"so few seeds can tell nothing apart, it takes {least} of each or more"
        if self.difference.effect == 0:
            return "no difference was seen"
        if self.seeds_needed is None:
            return "it would take more than 1,000 seeds"
        return (
            f"about {self.seeds_needed} seeds of each would tell a difference as large as this "
            f"with probability {POWER:.0%}"
        )


Entered = tuple[Entrant, Mapping[int, TrialHistory]]  # with its trials that are compared


def claims(entrants: Sequence[Entrant]) -> list[Claim]:
    """Compare every two of the runs: by the metric, and by the steps to the target if all have it.

    Args:
      entrants: the runs, of the same metric, see `entrant`.

    Returns:
      A claim for each two runs and each measure; the p-values are corrected for all of them.
    """
    chosen = [(entrant, choices(entrant)) for entrant in entrants]
    tests = [test for pair in combinations(chosen, 2) for test in _tests(*pair)]
    corrected = holm([test.p_value for test in tests])
    level = LEVEL / max(len(tests), 1)
    return [
        replace(test, p_value=p_value, seeds_needed=seeds_to_tell(test.difference, level=level))
        for test, p_value in zip(tests, corrected, strict=True)
    ]


def entrant(contestant: Contestant) -> Entrant:
    """Return what claims need of a run in a comparison."""
    summary = contestant.run.summary
    measures = measures_of(summary)
    return Entrant(
        name=contestant.name,
        trials=tuple(trials(contestant.run.records, measures.columns)),
        measures=measures,
        target=summary["target"],
        at_edge=bool((summary["best"] or {}).get("at_edge")),
    )


def choices(entrant: Entrant) -> dict[int, TrialHistory]:
    """Return, of the setting that the first fifth of the seeds choose, the other seeds' trials.

    Of one setting they are all seeds' trials; with one seed and several settings there are none.
    """
    tried = settings(entrant.trials)
    seeds = sorted({trial.seed for trial in entrant.trials})
    tuning = set(seeds[: max(1, len(seeds) // TUNING)]) if len(tried) > 1 else set()
    trials_of = {s: [t for t in entrant.trials if t.setting == s] for s in tried}
    groups = {s: [t for t in group if t.seed in tuning] for s, group in trials_of.items()}
    best = ranking(groups, entrant.measures) if tuning else tried
    return {t.seed: t for s in best[:1] for t in trials_of[s] if t.seed not in tuning}


def _tests(*entered: Entered) -> list[Claim]:
    """Test two runs, each with the trials that are compared, by all that both measure."""
    (first, chosen), (second, others) = entered
    if not chosen or not others:
        return []
    part = "test" if _tested(chosen) and _tested(others) else "validation"
    metric, target = first.measures.metric, first.target
    scores = [{s: _score(t, e.measures, part) for s, t in c.items()} for e, c in entered]
    tests = [_test(first, second, f"{part} {SCORES.get(metric, metric)}", *scores)]
    if target is not None and second.target == target:
        steps = [{s: -first_step(t, e.measures, target) for s, t in c.items()} for e, c in entered]
        tests.append(_test(first, second, f"steps to {number_text(target, metric)}", *steps))
    return tests


def _test(first: Entrant, second: Entrant, measure: str, x: Scores, y: Scores) -> Claim:
    difference = rank_difference(x, y)
    if difference.mean_rank < 0:
        first, second, difference = second, first, -difference
    reservations = (*_budgets(first, second), *_edges(first, second))
    names = (first.name, second.name)
    return Claim(*names, measure, difference.p_value, difference, None, reservations)


def _tested(chosen: Mapping[int, TrialHistory]) -> bool:
    return all(trial.test for trial in chosen.values())


def _score(trial: TrialHistory, measures: Measures, part: str) -> float:
    row = trial.test if part == "test" else (trial.evals[-1] if trial.evals else None)
    value = None if row is None or trial.diverged else row.get(measures.metric)
    if value is None or not math.isfinite(value):
        return -math.inf
    return value if measures.higher_is_better else -value


def _budgets(*pair: Entrant) -> list[str]:
    """Say where the runs were tuned by unequal numbers of steps."""
    spent = [sum(trial.steps for trial in entrant.trials) for entrant in pair]
    if spent[0] == spent[1]:
        return []
    told = (
        f"{entrant.name} {len(settings(entrant.trials))} settings, {steps:,} steps in all"
        for entrant, steps in zip(pair, spent, strict=True)
    )
    return [f"Tuned unequally: {'; '.join(told)}."]


def _edges(*pair: Entrant) -> list[str]:
    return [
        f"The best rate of {entrant.name} lies at the edge of its grid: extend the grid."
        for entrant in pair
        if entrant.at_edge
    ]


def _seeds(difference: Difference) -> str:
    n, m = difference.sizes
    return f"{n} seeds, paired" if difference.paired else f"{n} and {m} seeds"
