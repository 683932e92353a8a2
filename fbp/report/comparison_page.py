"""One page for several runs: the verdict first, then table, pictures, and what differs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.report import comparison_figures
from fbp.report.claims import RULE, claims, entrant
from fbp.report.comparison import Contestant, config_differences, contestants, improvements
from fbp.report.markup import Cell, picture, png, render
from fbp.report.statistics import Interval
from fbp.report.summary import as_json
from fbp.report.text import SCORES, cell, interval_text, number_text, setting_label, warnings
from fbp.report.trials import setting_of

TABLE_NOTE = (
    "Each run's best rate was chosen on the validation set, and so is the order of the runs; the "
    "test set was looked at once, after that. Mean over the seeds that did not diverge, with the "
    "95% bootstrap interval; a diverged trial counts as a failure in the order. "
) + RULE
MATRIX_NOTE = (
    "Probability that a trial of the row's best setting ends higher on the validation set than one "
    "of the column's, with the 95% bootstrap interval over seeds. 50% says that neither is better."
)
CAPTIONS = {
    "score_by_rate": "The score on the validation set after the last step, against the rate: mean "
    "over seeds and its 95% interval. A flat top forgives a rate that is not the best.",
    "loss_by_step": "Loss of each run's best setting: a line is the median over seeds, its band "
    "reaches from the lowest to the highest seed.",
}


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write the comparison of the runs in these directories to `out`; return its path.

    Raises InputError where the runs cannot be compared, see `contestants`, or where `out`
    cannot be written.
    """
    compared = contestants(runs)
    alive = [contestant for contestant in compared if contestant.scores]
    pictures = (
        {n: png(f) for n, f in comparison_figures.draw_comparison(alive).items()} if alive else {}
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(comparison_html(compared, pictures), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}): give another") from error
    return out


def comparison_html(compared: Sequence[Contestant], pictures: Mapping[str, bytes]) -> str:
    """Return the page as HTML that needs no other file."""
    alive = [contestant for contestant in compared if contestant.scores]
    names = [contestant.name for contestant in alive]
    titles = comparison_columns(compared)
    return render(
        "report/comparison.html",
        title=" or ".join(c.name for c in compared) + ": which trains best?",
        verdict=comparison_verdict(compared),
        warnings=[f"{c.name}: {text}" for c in compared for text in warnings(c.run)],
        table_note=TABLE_NOTE,
        titles=list(titles),
        rows=[[cell_of(contestant) for cell_of in titles.values()] for contestant in compared],
        best=0 if alive and not _are_equal(*compared[:2]) else None,
        pictures=[picture(image, CAPTIONS[name]) for name, image in pictures.items()],
        matrix_note=MATRIX_NOTE,
        names=names,
        matrix=_matrix(names, improvements(alive)),
        every_name=[contestant.name for contestant in compared],
        differences=_differing(compared),
    )


def comparison_verdict(compared: Sequence[Contestant]) -> str:
    """Say in a sentence or two which run trained best."""
    best, second = compared[:2]
    if not best.scores:
        return "No run trained the network: every trial of every run diverged."
    if _are_equal(best, second):
        return (
            f"{best.name} and {second.name} trained equally well, the two cannot be told apart: at "
            f"learning rate {setting_label(best.run.summary['best'])} their trials ended alike."
        )
    summary = best.run.summary
    metric, name = summary["metric"], SCORES.get(summary["metric"], summary["metric"])
    parts = [
        f"{part} {name} {interval_text(summary['best'][f'{part}_{metric}'], metric)}"
        for part in ("validation", "test")
        if f"{part}_{metric}" in summary["best"]
    ]
    answer = (
        f"{best.name} trained best, with learning rate {setting_label(summary['best'])}: "
        f"{', '.join(parts)}."
    )
    return f"{answer} {_lead(compared)}"


def _are_equal(first: Contestant, second: Contestant) -> bool:
    """Whether both chose one setting, whose trials ended at the same scores."""
    settings = {setting_label(one.run.summary["best"]) for one in (first, second) if one.scores}
    return first.scores == second.scores and len(settings) == 1


def _lead(compared: Sequence[Contestant]) -> str:
    best, second = compared[:2]
    if not second.scores:
        return "No other run trained the network."
    names = {best.name, second.name}
    told = [c for c in claims([*map(entrant, compared)]) if {c.first, c.second} == names]
    if told:
        return str(told[0])
    return f"{best.name} and {second.name} cannot be told apart by one seed."


def comparison_columns(compared: Sequence[Contestant]) -> dict[str, Any]:
    """Return the table's columns: a title, and the cell of a contestant."""
    metric = compared[0].run.summary["metric"]
    score = SCORES.get(metric, metric)
    titles = {
        "run": lambda c: (c.name, ""),
        "best rate": _best_rate,
        f"validation {score}": lambda c: _result(c, "validation"),
        f"test {score}": lambda c: _result(c, "test"),
        "diverged trials": _diverged,
    }
    targets = {contestant.run.summary["target"] for contestant in compared}
    if targets != {None}:
        shown = {number_text(target, metric) for target in targets - {None}}
        titles[f"median steps to {' or '.join(sorted(shown))}"] = _steps
        titles["time to it for each trial"] = _seconds
    return titles


def _best_rate(contestant: Contestant) -> Cell:
    best = contestant.run.summary["best"]
    if best is None:
        return "–", "every trial diverged"
    return setting_label(best), "edge of the grid" if best["at_edge"] else ""


def _result(contestant: Contestant, part: str) -> Cell:
    summary = contestant.run.summary
    interval = (summary["best"] or {}).get(f"{part}_{summary['metric']}")
    return ("–", "") if interval is None else cell(interval, summary["metric"])


def _diverged(contestant: Contestant) -> Cell:
    rates = contestant.run.summary["rates"]
    lost, tried = (sum(entry[key] for entry in rates) for key in ("diverged", "trials"))
    return number_text(lost / tried, "accuracy"), f"{lost} of {tried}"


def _steps(contestant: Contestant) -> Cell:
    arrival = _arrival(contestant)
    if arrival is None:
        return "–", ""
    median = "–" if arrival["median"] is None else f"{arrival['median']:,.0f}"
    return median, f"{arrival['reached']} of {len(contestant.winners)} arrive"


def _seconds(contestant: Contestant) -> Cell:
    """Return the steps' share of the whole sweep's time, as all trials are trained together."""
    arrival, speed = _arrival(contestant), contestant.run.summary.get("trial_steps_per_second")
    if arrival is None or arrival["median"] is None or speed is None:
        return "–", ""
    return f"{arrival['median'] / speed:.2g} s", f"{speed:,.0f} trial-steps/s"


def _arrival(contestant: Contestant) -> Mapping[str, Any] | None:
    chosen = {trial.setting for trial in contestant.winners}
    entries = (e for e in contestant.run.summary["rates"] if setting_of(e) in chosen)
    return next((entry["steps_to_target"] for entry in entries), None)


def _matrix(names: Sequence[str], chances: Sequence[Sequence[Interval]]) -> list[list[Cell]]:
    return [
        [
            (name, ""),
            *(("–", "") if i == j else cell(as_json(p), "accuracy") for j, p in enumerate(row)),
        ]
        for i, (name, row) in enumerate(zip(names, chances, strict=True))
    ]


def _differing(compared: Sequence[Contestant]) -> list[list[Cell]]:
    differing = config_differences(compared)
    if not differing:
        return [[("nothing but the name", ""), *(("", "") for _ in compared)]]
    return [
        [(key, ""), *(("–" if v is None else json.dumps(v), "") for v in values)]
        for key, values in differing.items()
    ]
