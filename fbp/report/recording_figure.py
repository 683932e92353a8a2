"""Draw what a training recorded: layers against steps, a color for each number."""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from fbp.recording import DEAD, Recording
from fbp.report.drawing import WIDTH, plain

SCALES = {
    "gradient_norm": "log",
    "update_ratio": "log",
    "noise_scale": "log",
    "zero_share": (0.0, 1.0),
    DEAD: (0.0, 1.0),
    "cosine": (-1.0, 1.0),
}
ROW, HEAD = 0.22, 0.9  # inches for a layer, and for a panel's title and axis


def draw_recording(recording: Recording) -> Figure:
    """Draw a heat map for each measure: a row is a layer, a column a recorded step.

    What is not finite, and what cannot be shown on a logarithmic scale, is left white.

    Args:
      recording: `TrainResult.recording`, `TrainResult.last_steps`, or one of a sweep's
        `fbp.recording.recordings`.

    Returns:
      The figure; `figure.savefig(path)` writes it.

    Source: histograms of activations and gradients by layer, Glorot and Bengio (2010).

    >>> from fbp.recording import recording_of
    >>> rows = [{"gradient_norm": {"0/w": 1.0, "1/w": 0.1}}] * 2
    >>> len(draw_recording(recording_of([1, 2], rows)).axes)
    2
    """
    heights = [HEAD + ROW * len(rows) for rows in recording.measures.values()]
    figure = Figure(figsize=(WIDTH, max(sum(heights), HEAD)), layout="constrained")
    if not heights:
        return figure
    panels = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    for panel, (measure, unordered) in zip(panels, recording.measures.items(), strict=True):
        rows = {name: unordered[name] for name in sorted(unordered, key=_position)}
        scale = SCALES.get(measure, "log")
        norm = LogNorm() if scale == "log" else Normalize(*scale)
        colors = "RdBu" if measure == "cosine" else "viridis"
        edges = [-0.5, *(i + 0.5 for i in range(len(recording.steps)))]
        mesh = panel.pcolormesh(
            edges, range(len(rows) + 1), _masked(rows, scale == "log"), norm=norm, cmap=colors
        )
        figure.colorbar(mesh, ax=panel)
        panel.set_title(measure.replace("_", " "), loc="left")
        panel.set_yticks([i + 0.5 for i in range(len(rows))], [plain(name) for name in rows])
        panel.invert_yaxis()
        every = max(1, len(recording.steps) // 8)
        shown = range(0, len(recording.steps), every)
        panel.set_xticks(list(shown), [f"{recording.steps[i]:,}" for i in shown])
    panels[-1].set_xlabel("step")
    return figure


def _position(layer: str) -> list[tuple[int, str]]:
    """Return a key that orders layers by the numbers in their names: 9 comes before 10."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", layer)
    ]


def _masked(
    rows: Mapping[str, Float[np.ndarray, " steps"]], positive: bool
) -> Float[np.ma.MaskedArray, "layers steps"]:
    values = np.stack([np.asarray(row, np.float64) for row in rows.values()])
    hidden = ~np.isfinite(values) | (positive & ~(values > 0))
    return np.ma.masked_array(values, hidden)
