"""Parts of the pictures of a run and of a comparison."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fbp.report.trials import TrialHistory, curve

MARKERS = "os^vDP<>Xhp*d8"
LOSS = {
    "classification": "loss (cross-entropy, nats)",
    "regression": "loss (squared error / variance)",
}
ACCENT = "#b2182b"
WIDTH = 6.4
ENLARGED = 0.1  # the share of accuracies that is shown apart
PALEST = 0.88  # the yellow end of viridis is too pale on white


def style_of(number: int, count: int) -> dict[str, Any]:
    """Return color and marker of the item of that number among `count`."""
    position = PALEST * number / max(count - 1, 1)
    color = matplotlib.colormaps["viridis"](position)
    return {"color": color, "marker": MARKERS[number % len(MARKERS)], "markersize": 5}


def draw_curve(
    panel: Axes,
    seeds: Sequence[TrialHistory],
    part: Any,
    style: Mapping[str, Any],
    name: str,
    emphasis: bool = False,
) -> None:
    """Draw median and range of the seeds' losses by step; a cross where all had diverged."""
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
        label=f"{name}{note}",
        zorder=3 if emphasis else 2,
    )
    if lost and count:
        panel.plot(line.step[-1:], line.median[-1:], "x", color=ACCENT, markersize=9, zorder=4)


def cap_at_start(panels: Iterable[Axes]) -> None:
    """Cut off what climbs far above the losses at the start: those runs diverge."""
    for panel in panels:
        losses = (np.asarray(line.get_ydata(), np.float64) for line in panel.lines)
        starts = sorted(loss[0] for loss in losses if len(loss) > 1)
        if starts:
            start = starts[len(starts) // 2]
            top = start + 9 * abs(start)
            panel.set_ylim(top=min(top, panel.get_ylim()[1]))


def show_losses(panels: Iterable[Axes]) -> None:
    """Show losses on a logarithmic axis; down to 0, linear below the least, where one is 0."""
    for panel in panels:
        lines = [line for line in panel.lines if line.get_transform() == panel.transData]
        values = [np.asarray(line.get_ydata(), np.float64).ravel() for line in lines]
        shown = np.concatenate([np.zeros(0), *values])
        finite = shown[np.isfinite(shown)]
        if not len(finite) or (finite < 0).any():
            continue
        if (finite > 0).all():
            panel.set_yscale("log")
        elif (finite > 0).any():
            panel.set_yscale("symlog", linthresh=finite[finite > 0].min(), linscale=0.4)
            panel.set_ylim(bottom=0)


def show_rate_scale(figure: Figure, panels: Any, rates: Sequence[float]) -> None:
    """Show the rates on a logarithmic scale of the colors of `style_of`, in place of a legend."""
    colors = matplotlib.colormaps["viridis"](np.linspace(0, PALEST, 256))
    norm = LogNorm(min(rates), max(rates))
    mappable = ScalarMappable(norm, ListedColormap(colors))
    figure.colorbar(mappable, ax=list(panels), label="learning rate", location="bottom", shrink=0.8)


def plain(text: str) -> str:
    """Return the text so that matplotlib shows it as it is, dollar signs too.

    >>> plain("cost in $")
    'cost in \\\\$'
    """
    return text.replace("$", r"\$")


def draw_intervals(
    axes: Axes, entries: Sequence[Mapping[str, Any]], column: str, style: Mapping[str, Any]
) -> None:
    """Draw mean and interval of a validation column against the rate."""
    numbers = [(e["learning_rate"], e[f"validation_{column}"]) for e in entries]
    measured = [(rate, n) for rate, n in numbers if n["mean"] is not None]
    means = [n["mean"] for _, n in measured]
    below, above = (
        [abs(n["mean"] - n[bound]) if n[bound] is not None else 0.0 for _, n in measured]
        for bound in ("low", "high")
    )
    axes.errorbar([rate for rate, _ in measured], means, yerr=(below, above), capsize=3, **style)


def show_accuracies(panels: Sequence[Axes], entries: Iterable[Mapping[str, Any]]) -> None:
    """Show accuracy from 0 to 100% in the first panel, and around the best mean in the second."""
    top = max((e["validation_accuracy"]["mean"] or 0.0 for e in entries), default=0.0)
    panels[0].set_ylim(0.0, 1.02)
    panels[1].set_ylim(max(0.0, top - ENLARGED), min(1.0, top + ENLARGED / 2) + 0.002)
    for panel, name in zip(panels, ("accuracy", "accuracy, enlarged"), strict=True):
        panel.set_ylabel(f"final validation {name}")
        panel.yaxis.set_major_formatter(PercentFormatter(1.0))
