"""The pictures of a sweep: every one is a function from what was measured to a Figure.

Rates and settings are told apart by marker as well as by colour (viridis, which stays in order
for colour-blind readers and in grey).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fbp.report.trials import Record, Setting, Trial, curve, label, others_of, setting_of, trials

MARKERS = "os^vDP<>Xhp*d8"
LOSS = {
    "classification": "loss (cross-entropy, nats)",
    "regression": "loss (squared error / variance)",
}
ACCENT = "#b2182b"
WIDTH = 6.4
ENLARGED = 0.1  # the share of accuracies that is shown apart
MOST_NAMED = 8  # settings beside the rate that a legend names
PALEST = 0.88  # the yellow end of viridis is too pale on white


def draw(records: Iterable[Record], summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Every figure of a sweep, under its name; `summary` is as `summarise` makes it."""
    runs = trials(records)
    score_by_rate = r2_by_rate if summary["task"] == "regression" else accuracy_by_rate
    drawn = [figure(runs, summary) for figure in (loss_by_step, loss_by_rate, score_by_rate)]
    names = ("loss_by_step", "loss_by_rate", score_by_rate.__name__, "diverged_by_rate")
    return dict(zip(names, [*drawn, diverged_by_rate(summary)], strict=True))


def loss_by_step(runs: Sequence[Trial], summary: Mapping[str, Any]) -> Figure:
    """Training and validation loss against the step: median and range of the seeds of each rate.

    Of other hyperparameters the best setting's are shown, or the first one's.
    """
    best = summary["best"]
    others = others_of(setting_of(best if best is not None else summary["rates"][0]))
    shown = [run for run in runs if run.others == others]
    rates = sorted({run.learning_rate for run in shown})
    figure = Figure(figsize=(WIDTH, 8.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for panel, part, title in zip(
        panels, ("training", "evals"), ("training", "validation"), strict=True
    ):
        panel.set(yscale="log", ylabel=f"{title} {LOSS[summary['task']]}")
        for number, rate in enumerate(rates):
            seeds = [run for run in shown if run.learning_rate == rate]
            emphasis = best is not None and rate == best["learning_rate"]
            _curve(panel, seeds, part, _style(number, len(rates)), emphasis)
        panel.grid(alpha=0.3)
    _cap_at_start(panels)
    panels[-1].set_xlabel("step (parameter updates)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="learning rate", ncols=4, loc="outside lower center")
    return figure


def loss_by_rate(runs: Sequence[Trial], summary: Mapping[str, Any]) -> Figure:
    """Final validation loss against the rate, both on log axes."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.set(yscale="log", ylabel=f"final validation {LOSS[summary['task']]}")
    _by_rate(axes, runs, summary, "loss")
    figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def accuracy_by_rate(runs: Sequence[Trial], summary: Mapping[str, Any]) -> Figure:
    """Final validation accuracy against the rate: from 0 to 100%, and its upper end enlarged."""
    figure = Figure(figsize=(WIDTH, 7.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for panel, name in zip(panels, ("accuracy", "accuracy, enlarged"), strict=True):
        _by_rate(panel, runs, summary, "accuracy")
        panel.set_ylabel(f"final validation {name}")
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    top = max((e["validation_accuracy"]["mean"] or 0.0 for e in summary["rates"]), default=0.0)
    panels[0].set_ylim(0.0, 1.02)
    panels[1].set_ylim(max(0.0, top - ENLARGED), min(1.0, top + ENLARGED / 2) + 0.002)
    panels[0].set_xlabel("")
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def r2_by_rate(runs: Sequence[Trial], summary: Mapping[str, Any]) -> Figure:
    """Share of the validation targets' variance that is explained, against the rate."""
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    _by_rate(axes, runs, summary, "r2")
    low, high = axes.get_ylim()
    axes.set(ylim=(max(low, -1.0), max(high, 1.02)), ylabel="final validation r²")
    figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower center")
    return figure


def diverged_by_rate(summary: Mapping[str, Any]) -> Figure:
    """Share of the trials whose loss stopped being finite, against the rate."""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    groups = _groups(summary)
    for number, group in enumerate(groups):
        style = _style(number, len(groups))
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


def _by_rate(axes: Axes, runs: Sequence[Trial], summary: Mapping[str, Any], column: str) -> None:
    """Mean and interval of a validation column against the rate, and every trial as a dot."""
    _rate_axis(axes, summary)
    groups = _groups(summary)
    for number, group in enumerate(groups):
        style = _style(number, len(groups))
        own = {setting_of(entry) for entry in group.entries}
        survivors = [run for run in runs if run.setting in own and run.survived]
        axes.plot(
            [run.learning_rate for run in survivors],
            [run.last(column) for run in survivors],
            **style | {"markersize": 3, "alpha": 0.35, "linestyle": "none"},
            label="one trial" if number == 0 else None,
        )
        style |= {"label": f"{group.name} and 95% interval"}
        _intervals(axes, group.entries, column, style | {"linestyle": "-" if group.joined else ""})
    _mark_lost(axes, summary, height=0.96 if column == "loss" else 0.04)
    _mark_best(axes, summary, column)
    if summary["metric"] == column and summary["target"] is not None:
        axes.axhline(summary["target"], color="black", linestyle="--", linewidth=1, label="target")
    axes.grid(alpha=0.3)


def _rate_axis(axes: Axes, summary: Mapping[str, Any]) -> None:
    rates = [entry["learning_rate"] for entry in summary["rates"]]
    axes.set(xscale="log", xlabel="learning rate", xlim=(min(rates) / 1.5, max(rates) * 1.5))


def _curve(
    panel: Axes, seeds: Sequence[Trial], part: Any, style: Mapping[str, Any], emphasis: bool
) -> None:
    line = curve(seeds, part)
    lost = all(run.diverged for run in seeds)
    note = " (best)" if emphasis else " (diverged)" if lost else ""
    count = len(line.step)
    panel.fill_between(line.step, line.low, line.high, color=style["color"], alpha=0.12, lw=0)
    panel.plot(
        line.step,
        line.median,
        **style,
        linewidth=3.0 if emphasis else 1.3,
        markevery=max(1, count // 8),
        label=f"{seeds[0].learning_rate:.3g}{note}",
        zorder=3 if emphasis else 2,
    )
    if lost and count:
        panel.plot(line.step[-1:], line.median[-1:], "x", color=ACCENT, markersize=9, zorder=4)


def _cap_at_start(panels: Iterable[Axes]) -> None:
    """Cut off what climbs far above the losses at the start: those runs diverge."""
    for panel in panels:
        losses = (np.asarray(line.get_ydata(), np.float64) for line in panel.lines)
        starts = sorted(loss[0] for loss in losses if len(loss) > 1)
        if starts:
            top = 10 * starts[len(starts) // 2]
            panel.set_ylim(top=min(top, panel.get_ylim()[1]))


def _intervals(
    axes: Axes, entries: Sequence[Mapping[str, Any]], column: str, style: Mapping[str, Any]
) -> None:
    numbers = [(e["learning_rate"], e[f"validation_{column}"]) for e in entries]
    measured = [(rate, n) for rate, n in numbers if n["mean"] is not None]
    means = [n["mean"] for _, n in measured]
    below, above = (
        [abs(n["mean"] - n[bound]) if n[bound] is not None else 0.0 for _, n in measured]
        for bound in ("low", "high")
    )
    axes.errorbar([rate for rate, _ in measured], means, yerr=(below, above), capsize=3, **style)


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
    axes.plot(
        rate,
        best[f"validation_{column}"]["mean"],
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


def _style(number: int, count: int) -> dict[str, Any]:
    position = PALEST * number / max(count - 1, 1)
    colour = matplotlib.colormaps["viridis"](position)
    return {"color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 5}


@dataclass(frozen=True)
class _Group:
    """Settings that are drawn alike: of one value of everything but the rate, if `joined`."""

    name: str
    entries: Sequence[Mapping[str, Any]]
    joined: bool


def _groups(summary: Mapping[str, Any]) -> list[_Group]:
    groups: dict[Setting, list[Mapping[str, Any]]] = {}
    for entry in summary["rates"]:
        groups.setdefault(others_of(setting_of(entry)), []).append(entry)
    if len(groups) > MOST_NAMED:
        return [_Group("mean of a setting", summary["rates"], joined=False)]
    return [_Group(label(o) or "mean", entries, joined=True) for o, entries in groups.items()]
