"""Describe a sweep's summary in words and numbers, for a page or a terminal."""

from collections.abc import Callable, Mapping
from typing import Any

from fbp.report.best_settings import MOST, SETTINGS
from fbp.report.run_directory import RecordedRun
from fbp.report.trials import label, setting_of, value_text, without_rate

MOST_RIVALS = 8  # settings that a sentence can name
Entry = Mapping[str, Any]
Cell = tuple[str, str]  # a value, and what is added in small

SCORES = {"accuracy": "accuracy", "r2": "r²", "loss": "loss"}
MIDDLE = "interquartile mean"
NATS = "A nat is the unit of the natural logarithm: ten classes, guessed evenly, cost 2.3."
UNMEASURED = "No rate can be named: nothing was measured on the validation set yet."
CAPTIONS = {
    "loss_by_step": "Loss on the training and the validation set while the network learns: a line "
    "is the median over seeds, its band reaches from the lowest to the highest seed, a red cross "
    "marks where all seeds of a rate had diverged; curves that leave the picture at the top grow "
    "without bound.",
    "loss_by_rate": "Validation loss after the last step: too small a rate has not learnt yet, too "
    "large a rate climbs again or diverges.",
    "accuracy_by_rate": "Validation accuracy after the last step, on the whole scale and with its "
    "upper end enlarged.",
    "r2_by_rate": "Share of the variance of the validation targets that is explained after the "
    "last step: 1 is perfect, 0 no better than the mean, values below -1 are left out.",
    "score_by_rate": "The metric on the validation set after the last step.",
    "score_by_setting": "Every setting as a line across the values of its hyperparameters, colored "
    "by what trials are compared by: the best in red, those whose trials all diverged in gray.",
    "diverged_by_rate": "Share of the trials whose loss stopped being finite or grew beyond the "
    "limit set in the config.",
}


def verdict(summary: Entry) -> str:
    """Say in a sentence or two which rate trained best.

    >>> interval = {"mean": 0.975, "low": 0.97, "high": 0.981}
    >>> loss = {"mean": 0.1, "low": None, "high": None}
    >>> rate = {"learning_rate": 0.1, "trials": 1, "diverged": 0}
    >>> best = {"learning_rate": 0.1, "validation_accuracy": interval, "validation_loss": loss}
    >>> print(verdict({"task": "classification", "best": best, "rates": [rate]}))
    Learning rate 0.1 trained best: validation accuracy 97.5% [97.0, 98.1].
    """
    best, score = summary["best"], _score(summary)
    if best is None:
        lost = all(entry["diverged"] == entry["trials"] for entry in summary["rates"])
        if lost:
            return "No rate trained the network: every trial diverged."
        trained = any(entry.get("steps") for entry in summary["rates"])
        nan = f"No rate can be named: {summary['metric']} was no number at the end of any trial."
        return nan if trained else UNMEASURED
    parts = [
        f"{part} {SCORES.get(score, score)} {interval_text(best[f'{part}_{score}'], score)}"
        for part in ("validation", "test")
        if f"{part}_{score}" in best
    ]
    answer = f"Learning rate {setting_label(best)} trained best: {', '.join(parts)}"
    return " ".join([f"{answer}{_seeds(summary)}.", *_lead(summary), *_gradient_check(summary)])


def warnings(run: RecordedRun) -> list[str]:
    """List what the reader must know before believing the verdict."""
    summary, best = run.summary, run.summary["best"]
    texts = []
    if not run.complete:
        last = max(record["step"] for record in run.records)
        texts.append(
            f"This run was interrupted: the page shows what was measured until step {last}, and "
            "nothing was measured on the test set."
        )
    if best is not None and best["at_edge"]:
        rates = [entry["learning_rate"] for entry in summary["rates"]]
        side = "above" if best["learning_rate"] == max(rates) else "below"
        texts.append(
            f"The best rate lies at the edge of the grid: a better one may lie {side} "
            f"{best['learning_rate']:.3g}. Extend the grid and run again."
        )
    if all(entry["trials"] == 1 for entry in summary["rates"]):
        texts.append(
            "Each rate was trained with one seed: there are no intervals, and a difference between "
            "rates may be chance. Give more seeds."
        )
    return texts


def table_note(summary: Entry) -> str:
    """Explain the table, and name the settings that the best one does not clearly beat."""
    note = (
        "A trial is one training of one setting with one seed. Values after the last step: mean "
        "over the seeds that did not diverge, with the 95% bootstrap interval. A diverged trial "
        "counts as a failure in the choice of the best rate, which is made on the validation set."
    )
    lost, tried = (sum(e[key] for e in summary["rates"]) for key in ("diverged", "trials"))
    note += f" {lost} of the {tried} trials diverged ({number_text(lost / tried, 'accuracy')})."
    if MIDDLE in summary_columns(summary):
        note += " The interquartile mean is that of the middle half of the seeds."
    if "steps" in summary_columns(summary):
        note += " Settings with fewer steps were stopped early and are not compared."
    if len(summary["rates"]) > MOST:
        note += f" The best {MOST} of {len(summary['rates'])} settings; all are in {SETTINGS}."
    rivals = _rivals(summary)
    if len(rivals) > MOST_RIVALS:
        note += f" The intervals of {len(rivals)} settings overlap the best one's."
    elif rivals:
        note += f" Intervals that overlap the best one's: {'; '.join(rivals)}."
    return note


def caption(picture: str, summary: Entry) -> str:
    """Describe a picture in a sentence."""
    text = CAPTIONS[picture]
    shown = without_rate(setting_of(summary["best"] or summary["rates"][0]))
    if picture == "loss_by_step":
        text += f" {NATS}" if summary["task"] == "classification" else ""
        return f"{text} Of the other hyperparameters: {label(shown)}." if shown else text
    if picture != "diverged_by_rate" and "steps" in summary_columns(summary):
        return f"{text} A setting that was stopped early is shown as it was then."
    return text


def summary_columns(summary: Entry) -> dict[str, Callable[[Entry], Cell]]:
    """Return the table's columns: a title, and the cell for an entry of the summary."""
    score = _score(summary)
    names = [name for name, _ in without_rate(setting_of(summary["rates"][0]))]
    table: dict[str, Callable[[Entry], Cell]] = {"learning rate": _number("learning_rate")}
    table |= {name: _number(name) for name in names}
    if len({entry.get("steps") for entry in summary["rates"]} - {None}) > 1:
        table["steps"] = _trained
    table |= {
        "diverged": lambda entry: (f"{entry['diverged']} of {entry['trials']}", ""),
        "validation loss": lambda entry: cell(entry["validation_loss"], "loss"),
    }
    if score != "loss":
        title = f"validation {SCORES.get(score, score)}"
        table[title] = lambda entry: cell(entry[f"validation_{score}"], score)
    if any(_middle(entry)["mean"] is not None for entry in summary["rates"]):
        table[MIDDLE] = lambda entry: cell(_middle(entry), summary["metric"])
    if summary["target"] is not None:
        target = number_text(summary["target"], summary["metric"])
        table[f"median steps to {target}"] = _steps
    return table


def setting_label(entry: Entry) -> str:
    """Format the rate, and the other hyperparameters where there are any.

    >>> setting_label({"learning_rate": 0.0316228, "momentum": 0.9, "trials": 5})
    '0.0316 (momentum 0.9)'
    """
    rest = label(without_rate(setting_of(entry)))
    return f"{entry['learning_rate']:.3g}" + (f" ({rest})" if rest else "")


def _score(summary: Entry) -> str:
    """Return what is shown beside the loss, or the loss where there is nothing else."""
    if "score" in summary:
        return summary["score"] or "loss"
    return "r2" if summary["task"] == "regression" else "accuracy"


def _lead(summary: Entry) -> list[str]:
    """Say how sure it is that the best setting beats the next one."""
    second = summary.get("runner_up")
    if second is None or second["probability_of_improvement"]["low"] is None:
        return []
    chance = interval_text(second["probability_of_improvement"], "accuracy")
    rival = setting_label(second)
    if second["probability_of_improvement"]["low"] <= 0.5:
        return [
            f"It cannot be told apart from {rival} with these seeds: a trial of it beats one of "
            f"that with probability {chance}."
        ]
    return [f"A trial of it beats one of the runner-up, {rival}, with probability {chance}."]


def _middle(entry: Entry) -> Entry:
    return entry.get("interquartile_mean", {"mean": None})


def _gradient_check(summary: Entry) -> list[str]:
    check = summary.get("gradient_check")
    if check is None:
        return []
    reference = check.get("reference", "jax.grad")
    if check["max_ulps"] == 0:
        return [f"The gradients that fbp made equal those of {reference} exactly."]
    rounding = ", ".join(check.get("rounding", ()))
    return [
        f"The gradients that fbp made differ from those of {reference} by at most "
        f"{check['max_ulps']:.3g} ULPs (leaf {check['leaf']}); a ULP is the "
        "spacing of floating-point numbers.",
        *([f"Nothing but rounding, by either: {rounding}."] if rounding else []),
    ]


def _rivals(summary: Entry) -> list[str]:
    metric, best = f"validation_{summary['metric']}", summary["best"]
    if best is None or best[metric]["low"] is None:
        return []
    return [
        setting_label(entry)
        for entry in summary["rates"]
        if setting_of(entry) != setting_of(best)
        and entry[metric]["low"] is not None
        and entry[metric]["low"] <= best[metric]["high"]
        and entry[metric]["high"] >= best[metric]["low"]
    ]


def _seeds(summary: Entry) -> str:
    seeds = max(entry["trials"] for entry in summary["rates"])
    return f" (mean of {seeds} seeds [95% bootstrap interval])" if seeds > 1 else ""


def _number(name: str) -> Callable[[Entry], Cell]:
    return lambda entry: (value_text(entry[name]), "")


def interval_text(interval: Entry, measure: str) -> str:
    """Format the mean and its interval, in a line."""
    return " ".join(filter(None, cell(interval, measure)))


def cell(interval: Entry, measure: str) -> Cell:
    """Format the mean, accuracy in percent, and its interval."""
    if interval["mean"] is None:
        return "–", ""
    mean = number_text(interval["mean"], measure)
    if interval["low"] is None:
        return mean, ""
    low, high = (number_text(interval[bound], measure) for bound in ("low", "high"))
    return mean, f"[{low.removesuffix('%')}, {high.removesuffix('%')}]"


def number_text(value: float, measure: str) -> str:
    """Format a number, as per cent where it is an accuracy."""
    if measure == "accuracy":
        return f"{100 * value:.1f}%"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _trained(entry: Entry) -> Cell:
    return ("–" if entry["steps"] is None else f"{entry['steps']:,}"), ""


def _steps(entry: Entry) -> Cell:
    arrival = entry["steps_to_target"]
    median = "–" if arrival["median"] is None else f"{arrival['median']:,.0f}"
    return median, f"({arrival['reached']} of {entry['trials']} arrive)"
