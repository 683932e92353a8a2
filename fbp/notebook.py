"""How values show themselves in a notebook: small HTML, escaped, that needs nothing else."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 360, 160, 30
COLORS = ("#2166ac", "#b35806", "#5e3c99")  # of figures too: 4.5:1 and more on white


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table.

    >>> table(["name"], [["<b>"]])
    '<table><thead><tr><th>name</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    cells = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def folded(summary: str, content: str) -> str:
    """Return HTML that unfolds below a summary, which is text.

    >>> folded("2 > 1", "<p>yes</p>")
    '<details><summary>2 &gt; 1</summary><p>yes</p></details>'
    """
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def curves(steps: Sequence[float], losses: Mapping[str, Sequence[float | None]]) -> str:
    """Return losses by step as a picture, the values at its corners in numbers.

    Values that are not finite are left out; '' where none is left.

    >>> curves([0, 10], {"validation": [2.0, 1.0]}).count("<polyline")
    1
    >>> curves([0], {"validation": [float("nan")]})
    ''
    """
    points = {
        name: [(x, y) for x, y in zip(steps, values, strict=True) if y is not None]
        for name, values in losses.items()
    }
    points = {name: [p for p in ps if math.isfinite(p[1])] for name, ps in points.items()}
    heights = [y for ps in points.values() for _, y in ps]
    if not heights:
        return ""
    low, high, last = min(heights), max(heights), max(steps) or 1
    lines = [
        _line(name, [(x / last, (y - low) / (high - low or 1)) for x, y in ps], color, number)
        for number, ((name, ps), color) in enumerate(zip(points.items(), COLORS, strict=False))
    ]
    label = f"loss {', '.join(points)}: from {high:.3g} to {low:.3g} in {last} steps"
    corners = [(2, MARGIN, f"{high:.3g}"), (2, HEIGHT - MARGIN, f"{low:.3g}")]
    corners += [(WIDTH - MARGIN - 30, HEIGHT - 8, f"step {last}")]
    texts = "".join(f'<text x="{x}" y="{y}">{escape(text)}</text>' for x, y, text in corners)
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-size="11" fill="currentColor">{"".join(lines)}{texts}</svg>'
    )


def _line(name: str, points: Sequence[tuple[float, float]], color: str, number: int) -> str:
    """Return a line through points of the unit square, and its name."""
    left, width, height = 2 * MARGIN, WIDTH - 3 * MARGIN, HEIGHT - 2 * MARGIN
    drawn = [(left + x * width, MARGIN + (1 - y) * height) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    dashes = "" if not number else f' stroke-dasharray="{4 * number} 3"'
    return (
        f'<polyline fill="none" stroke="{color}" stroke-width="2"{dashes} points="{path}"/>'
        f'<text x="{left + 110 * number}" y="14" fill="{color}">{escape(name)}</text>'
    )
