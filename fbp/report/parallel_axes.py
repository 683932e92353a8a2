"""Many settings of several hyperparameters as lines across parallel axes.

Source: Inselberg, The plane with parallel coordinates (The Visual Computer 1, 1985).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from fbp.report.drawing import ACCENT, PALEST, WIDTH, plain
from fbp.report.measures import measures_of
from fbp.report.trials import setting_of

LOST = "0.8"  # gray of settings without a mean
WIDE = 20.0  # positive values that span more than this factor are on a logarithmic axis
MOST_TICKS = 6
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class _Scale:
    """Where the values of a hyperparameter lie on its axis, from 0 to 1."""

    values: Sequence[Any]

    @property
    def numbers(self) -> bool:
        return all(isinstance(value, int | float) for value in self.values)

    def heights(self, values: Sequence[Any]) -> np.ndarray:
        if not self.numbers:
            last = max(len(self.values) - 1, 1)
            return np.array([self.values.index(value) / last for value in values])
        low, high = min(self.values), max(self.values)
        transform = np.log if low > 0 and high / low > WIDE else np.asarray
        ends = np.asarray(transform([low, high]), float)
        return (np.asarray(transform(values), float) - ends[0]) / (ends[1] - ends[0])

    @property
    def ticks(self) -> Sequence[Any]:
        """The values that are written: all, or the ends and some between."""
        if len(self.values) <= MOST_TICKS:
            return self.values
        between = np.linspace(0, len(self.values) - 1, MOST_TICKS).round().astype(int)
        return [self.values[i] for i in between]


def axes_that_vary(summary: Entry) -> dict[str, _Scale]:
    """Return the hyperparameters that have more than one value, in the order of the settings."""
    settings = [dict(setting_of(entry)) for entry in summary["rates"]]
    names = dict.fromkeys(name for setting in settings for name in setting)
    columns = {name: {s[name] for s in settings if s.get(name) is not None} for name in names}
    order = lambda value: (isinstance(value, str), value)
    return {name: _Scale(sorted(c, key=order)) for name, c in columns.items() if len(c) > 1}


def score_by_setting(summary: Entry) -> Figure:
    """Draw each setting as a line across an axis for each hyperparameter; its color is its score.

    Settings without a mean, all of whose trials diverged, are gray.
    """
    scales, metric = axes_that_vary(summary), measures_of(summary).metric
    entries = [e for e in summary["rates"] if _complete(e, scales)]
    lines = np.stack(
        [scale.heights([e[name] for e in entries]) for name, scale in scales.items()], axis=1
    )
    means = np.array([_mean(entry, metric) for entry in entries])
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots()
    _draw_axes(axes, scales)
    _draw_lines(axes, lines[np.isnan(means)], {"colors": LOST, "linewidths": 0.6})
    known = np.flatnonzero(np.isfinite(means))
    if len(known):
        better = known[np.argsort(means[known])]
        better = better if measures_of(summary).higher_is_better else better[::-1]
        _draw_scores(figure, axes, lines[better], means[better], plain(metric))
    best = summary["best"]
    chosen = [i for i, e in enumerate(entries) if best and setting_of(e) == setting_of(best)]
    _draw_lines(axes, lines[chosen], {"colors": ACCENT, "linewidths": 2.5, "label": "best"})
    return figure


def _complete(entry: Entry, scales: Mapping[str, _Scale]) -> bool:
    return all(entry.get(name) is not None for name in scales)


def _mean(entry: Entry, metric: str) -> float:
    mean = entry[f"validation_{metric}"]["mean"]
    return np.nan if mean is None or entry["diverged"] == entry["trials"] else mean


def _draw_scores(
    figure: Figure, axes: Axes, lines: np.ndarray, means: np.ndarray, name: str
) -> None:
    """Draw lines in the colors of their means, from worst to best, and the scale of the colors.

    The worst twentieth has one color, so that a few far off leave colors for the others.
    """
    low, high = sorted((means[len(means) // 20], means[-1]))
    colors = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, PALEST, 256)))
    norm = Normalize(low, high, clip=True)
    _draw_lines(axes, lines, {"colors": colors(norm(means)), "linewidths": 0.9, "alpha": 0.7})
    mappable = ScalarMappable(norm, colors)
    figure.colorbar(mappable, ax=axes, label=f"final validation {name}", shrink=0.9)


def _draw_lines(axes: Axes, lines: np.ndarray, style: Mapping[str, Any]) -> None:
    across = np.arange(lines.shape[1])
    axes.add_collection(LineCollection([np.column_stack([across, y]) for y in lines], **style))


def _draw_axes(axes: Axes, scales: Mapping[str, _Scale]) -> None:
    axes.set(xlim=(-0.4, len(scales) - 0.6), ylim=(-0.05, 1.05), yticks=[])
    axes.set(xlabel="hyperparameter", ylabel="value, as written beside its axis")
    axes.set_xticks(range(len(scales)), [plain(name) for name in scales])
    for side in axes.spines.values():
        side.set_visible(False)
    for x, scale in enumerate(scales.values()):
        axes.axvline(x, color="black", linewidth=0.8, zorder=3)
        for value, height in zip(scale.ticks, scale.heights(scale.ticks), strict=True):
            text = f"{value:.3g}" if isinstance(value, int | float) else plain(str(value))
            box = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5}
            at = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(text, (x, height), fontsize=7, zorder=4, bbox=box, **at)
