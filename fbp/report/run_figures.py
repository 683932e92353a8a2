"""Draw the pictures of a sweep: every one is a function from what was measured to a Figure.

Rates and settings are told apart by marker as well as by color (viridis, which stays in order
for color-blind readers and in gray).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
    show_rate_scale,
    style_of,
)
from fbp.report.measures import measures_of
from fbp.report.parallel_axes import axes_that_vary, score_by_setting
from fbp.report.trials import Record, Setting, TrialHistory, label, setting_of, trials, without_rate

MOST_NAMED = 8  # settings beside the rate that a legend names
MOST_RATES = 24  # that a legend names: six rows below the panels; more are on a scale of colors


def draw_run(records: Iterable[Record], summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw every figure of a sweep, by name; `summary` is as `summarize` makes it."""
    measures = measures_of(summary)
    runs = trials(records, measures.columns)
    pictures = {"loss_by_step": loss_by_step, "loss_by_rate": loss_by_rate}
    if measures.score in ("accuracy", "r2"):
        by_rate = {"accuracy": accuracy_by_rate, "r2": r2_by_rate}[measures.score]
        pictures[f"{measures.score}_by_rate"] = by_rate
    elif measures.score is not None:
        pictures["score_by_rate"] = score_by_rate
    drawn = {name: draw(runs, summary) for name, draw in pictures.items()}
    if len(_groups(summary)) == 1 and len(axes_that_vary(summary)) > 1:
        drawn["score_by_setting"] = score_by_setting(summary)
    return {**drawn, "diverged_by_rate": diverged_by_rate(summary)}


def loss_by_step(runs: Sequence[TrialHistory], summary: Mapping[str, Any]) -> Figure:
    """Draw training and validation loss against the step: median and range of each rate's seeds.

    Of other hyperparameters the best setting's are shown, or the first one's.
    """
    best = summary["best"]
    others = without_rate(setting_of(best if best is not None else summary["rates"][0]))
    shown = [run for run in runs if run.others == others]
    rates = sorted({run.learning_rate for run in shown})
    figure = Figure(figsize=(WIDTH, 8.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for panel, part, title in zip(
        panels, ("training", "evals"), ("training", "validation"), strict=True
    ):
        panel.set(ylabel=f"{title} {LOSS.get(summary['task'], 'loss')}")
        for number, rate in enumerate(rates):
            seeds = [run for run in shown if run.learning_rate == rate]
            emphasis = best is not None and rate == best["learning_rate"]
            style = style_of(number, len(rates))
            style |= {} if len(rates) <= MOST_RATES else {"marker": ""}
            draw_curve(panel, seeds, part, style, f"{rate:.3g}", emphasis)
        panel.grid(alpha=0.3)
    show_losses(panels)
    cap_at_start(panels)
    panels[-1].set_xlabel("step (parameter updates)")
    if len(rates) > MOST_RATES:
        show_rate_scale(figure, panels, rates)
        return figure
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="learning rate", ncols=4, loc="outside lower center")
    return figure


def loss_by_rate(runs: Sequence[TrialHistory], summary: Mapping[str, Any]) -> Figure:
    """Draw final validation loss against the rate, both on log axes."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(ylabel=f"final validation {LOSS.get(summary['task'], 'loss')}")
    _by_rate(axes, runs, summary, "loss")
    show_losses([axes])
    figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def accuracy_by_rate(runs: Sequence[TrialHistory], summary: Mapping[str, Any]) -> Figure:
    """Draw final validation accuracy against the rate: from 0 to 100%, and the top enlarged."""
    figure = Figure(figsize=(WIDTH, 7.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for panel in panels:
        _by_rate(panel, runs, summary, "accuracy")
    show_accuracies(panels, summary["rates"])
    panels[0].set_xlabel("")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def r2_by_rate(runs: Sequence[TrialHistory], summary: Mapping[str, Any]) -> Figure:
    """Draw the share of the validation targets' variance that is explained, against the rate."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    _by_rate(axes, runs, summary, "r2")
    low, high = axes.get_ylim()
    axes.set(ylim=(max(low, -1.0), max(high, 1.02)), ylabel="final validation r²")
    figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def score_by_rate(runs: Sequence[TrialHistory], summary: Mapping[str, Any]) -> Figure:
    """Draw a metric of the user's on the validation set, against the rate."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes, score = figure.subplots(), measures_of(summary).score or "loss"
    _by_rate(axes, runs, summary, score)
    axes.set(ylabel=f"final validation {plain(score)}")
    figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def diverged_by_rate(summary: Mapping[str, Any]) -> Figure:
    """Draw the share of the trials that diverged, against the rate."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    groups = _groups(summary)
    for number, group in enumerate(groups):
        style = style_of(number, len(groups))
        beside = 1.05 ** (number - (len(groups) - 1) / 2)  # settings side by side
        rates = [entry["learning_rate"] * beside for entry in group.entries]
        shares = [entry["diverged"] / entry["trials"] for entry in group.entries]
        axes.vlines(rates, 0, shares, color=style["color"], linewidth=2)
        axes.plot(rates, shares, **style, linestyle="none", label=group.name, clip_on=False)
        if len(groups) == 1 and group.joined:
            _write_counts(axes, group.entries)
    _rate_axis(axes, summary)
    axes.set(ylabel="diverged trials", ylim=(0, 1.15))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    if len(groups) > 1:
        axes.legend()
    return figure


def _by_rate(
    axes: Axes, runs: Sequence[TrialHistory], summary: Mapping[str, Any], column: str
) -> None:
    """Draw mean and interval of a validation column against the rate, and every trial as a dot."""
    _rate_axis(axes, summary)
    groups = _groups(summary)
    for number, group in enumerate(groups):
        style = style_of(number, len(groups))
        settings_of_group = {setting_of(entry) for entry in group.entries}
        survivors = [run for run in runs if run.setting in settings_of_group and run.survived]
        axes.plot(
            [run.learning_rate for run in survivors],
            [run.last(column) for run in survivors],
            **style | {"markersize": 3, "alpha": 0.35, "linestyle": "none"},
            label="one trial" if number == 0 else None,
        )
        style |= {"label": f"{group.name} and 95% interval"}
        draw_intervals(
            axes, group.entries, column, style | {"linestyle": "-" if group.joined else ""}
        )
    _mark_lost(axes, summary, height=0.96 if column == "loss" else 0.04)
    _mark_best(axes, summary, column)
    if summary["metric"] == column and summary["target"] is not None:
        axes.axhline(summary["target"], color="black", linestyle="--", linewidth=1, label="target")
    axes.grid(alpha=0.3)


def _rate_axis(axes: Axes, summary: Mapping[str, Any]) -> None:
    rates = [entry["learning_rate"] for entry in summary["rates"]]
    axes.set(xscale="log", xlabel="learning rate", xlim=(min(rates) / 1.5, max(rates) * 1.5))


def _mark_lost(axes: Axes, summary: Mapping[str, Any], height: float) -> None:
    lost = sorted(
        {e["learning_rate"] for e in summary["rates"]}
        - {e["learning_rate"] for e in summary["rates"] if e["diverged"] < e["trials"]}
    )
    if lost:
        axes.plot(
            lost,
            [height] * len(lost),
            "x",
            color=ACCENT,
            transform=axes.get_xaxis_transform(),
            label="all trials diverged",
        )


def _mark_best(axes: Axes, summary: Mapping[str, Any], column: str) -> None:
    best = summary["best"]
    if best is None:
        return
    rate = best["learning_rate"]
    edge = " (edge of the grid)" if best["at_edge"] else ""
    axes.axvline(rate, color=ACCENT, linestyle=":", linewidth=1.2)
    mean = best[f"validation_{column}"]["mean"]
    axes.plot(
        rate,
        math.nan if mean is None else mean,
        "*",
        markersize=16,
        markerfacecolor="none",
        color=ACCENT,
        label=f"best rate {rate:.3g}{edge}",
        zorder=5,
    )


def _write_counts(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    for entry in entries:
        axes.annotate(
            f"{entry['diverged']}/{entry['trials']}",
            (entry["learning_rate"], entry["diverged"] / entry["trials"]),
            textcoords="offset points",
            xytext=(0, 6),
            ha="center",
            fontsize=8,
        )


@dataclass(frozen=True)
class _Group:
    """Settings that are drawn alike: of one value of everything but the rate, if `joined`."""

    name: str
    entries: Sequence[Mapping[str, Any]]
    joined: bool


def _groups(summary: Mapping[str, Any]) -> list[_Group]:
    groups: dict[Setting, list[Mapping[str, Any]]] = {}
    for entry in summary["rates"]:
        groups.setdefault(without_rate(setting_of(entry)), []).append(entry)
    if len(groups) > MOST_NAMED:
        return [_Group("mean of a setting", summary["rates"], joined=False)]
    return [
        _Group(plain(label(o)) or "mean", entries, joined=True) for o, entries in groups.items()
    ]
