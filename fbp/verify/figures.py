"""The picture of a check: the error of finite differences against the step, for one leaf."""

import numpy as np
from matplotlib.figure import Figure

from fbp.report.drawing import ACCENT
from fbp.verify.ladders import Ladder

BLUE = "#31688e"
FLOOR = 1e-18  # of an error of zero, as a share of the largest


def draw(ladder: Ladder) -> Figure:
    """Return the error for each step, that of the limit, and the limit's bar, on log axes.

    What is not finite, as where the function has no value, is left out.
    """
    lines = np.array([ladder.limit, ladder.bar, *ladder.errors])
    largest = np.max(lines[np.isfinite(lines)], initial=0) or 1
    lines = np.maximum(np.where(np.isfinite(lines), lines, np.nan), FLOOR * largest)
    limit, bar, *errors = lines
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="step h", ylabel="distance from the gradient")
    axes.set_ylim(np.min(lines[np.isfinite(lines)], initial=largest) / 4, largest * 4)
    if np.isfinite(limit + bar):
        axes.axhspan(0, bar, color="#777777", alpha=0.25, lw=0, label="error bar")
        axes.axhline(limit, color=ACCENT, linewidth=1.5, label="extrapolated to 0")
    axes.plot(ladder.steps, errors, "o-", color=BLUE, markersize=4, linewidth=1, label="one step")
    axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), ncols=3, loc="outside lower center")
    return figure
