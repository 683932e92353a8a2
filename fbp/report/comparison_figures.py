"""The pictures of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fbp.report.comparison import Contestant
from fbp.report.drawing import (
    ACCENT,
    LOSS,
    WIDTH,
    cap_at_start,
    draw_curve,
    draw_intervals,
    plain,
    show_accuracies,
    show_losses,
    style_of,
)
from fbp.report.trials import setting_of, without_rate

BEST = {
    "marker": "*",
    "markersize": 15,
    "markerfacecolor": "none",
    "color": ACCENT,
    "linestyle": "none",
}


def draw_comparison(compared: Sequence[Contestant]) -> dict[str, Figure]:
    """Draw every figure of a comparison, by name; of runs of which a trial survived."""
    return {
        "score_by_rate": score_of_runs_by_rate(compared),
        "loss_by_step": winners_loss_by_step(compared),
    }


def score_of_runs_by_rate(compared: Sequence[Contestant]) -> Figure:
    """Draw the metric on the validation set against the rate, each run in its own color.

    Of a run's other hyperparameters the best setting's are shown.
    """
    summaries = [contestant.run.summary for contestant in compared]
    metric = summaries[0]["metric"]
    count = 2 if metric == "accuracy" else 1
    figure = Figure(figsize=(WIDTH, 4.6 + 3.0 * (count - 1)), layout="constrained")
    panels = list(figure.subplots(count, 1, sharex=True, squeeze=False).flat)
    for panel in panels:
        panel.set(xscale="log", ylabel=_axis(summaries[0]))
        panel.grid(alpha=0.3)
        for number, contestant in enumerate(compared):
            _draw_run(panel, contestant, style_of(number, len(compared)), metric)
        panel.plot([], [], **BEST, label="best rate")
    if metric == "accuracy":
        show_accuracies(panels, [entry for summary in summaries for entry in summary["rates"]])
    elif metric == "loss":
        show_losses(panels)
    elif metric == "r2":
        low, high = panels[0].get_ylim()
        panels[0].set_ylim(max(low, -1.0), max(high, 1.02))
    panels[-1].set_xlabel("learning rate")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def _draw_run(panel: Axes, contestant: Contestant, style: Mapping[str, Any], metric: str) -> None:
    best, rates = (contestant.run.summary[key] for key in ("best", "rates"))
    shown = [entry for entry in rates if _others(entry) == _others(best)]
    draw_intervals(panel, shown, metric, {**style, "label": plain(contestant.name)})
    panel.plot(best["learning_rate"], best[f"validation_{metric}"]["mean"], **BEST, zorder=5)


def winners_loss_by_step(compared: Sequence[Contestant]) -> Figure:
    """Draw the losses of each run's best setting: median and range of the seeds."""
    figure = Figure(figsize=(WIDTH, 8.0), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    task = compared[0].run.summary["task"]
    parts = ("training", "evals"), ("training", "validation")
    for panel, part, title in zip(panels, *parts, strict=True):
        panel.set(ylabel=f"{title} {LOSS.get(task, 'loss')}")
        for number, contestant in enumerate(compared):
            rate = contestant.run.summary["best"]["learning_rate"]
            name = f"{plain(contestant.name)}, rate {rate:.3g}"
            draw_curve(panel, contestant.winners, part, style_of(number, len(compared)), name)
        panel.grid(alpha=0.3)
    show_losses(panels)
    cap_at_start(panels)
    panels[-1].set_xlabel("step (parameter updates)")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def _others(entry: Mapping[str, Any]) -> Any:
    return without_rate(setting_of(entry))


def _axis(summary: Mapping[str, Any]) -> str:
    names = {"accuracy": "accuracy", "r2": "r²", "loss": LOSS.get(summary["task"], "loss")}
    metric = summary["metric"]
    return f"final validation {names.get(metric, plain(metric))}"
