"""The drawing of a network: where its neurons stand, and how its edges look."""

from collections.abc import Sequence
from html import escape
from typing import Any

from fbp.show.payload import shown

WIDTH, HEIGHT = 380, 300  # the size at which text of 11 px is as large on a phone of 390 px
LEFT, RIGHT, TOP, BOTTOM = 26, 40, 18, 18
RADIUS = 13
THINNEST, THICKEST = 0.75, 8.0  # px; an edge of weight 0 is still an edge

Point = tuple[float, float]


def positions(widths: Sequence[int]) -> list[list[Point]]:
    """Return the center of each neuron, layer by layer."""
    columns = len(widths) - 1
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return [
        [(round(LEFT + across * c / columns, 1), round(TOP + down * (i + 0.5) / n, 1))
         for i in range(n)]
        for c, n in enumerate(widths)
    ]  # fmt: skip


def radius(widths: Sequence[int]) -> float:
    """Return a radius with which the fullest layer's neurons do not touch."""
    return round(min(RADIUS, 0.42 * (HEIGHT - TOP - BOTTOM) / max(widths)), 1)


def edge_width(w: float, largest: float) -> float:
    """Return an edge's width in px, linear in |w|.

    >>> edge_width(0.0, 2.0), edge_width(-2.0, 2.0)
    (0.75, 8.0)
    """
    return round(THINNEST + (THICKEST - THINNEST) * min(1.0, abs(w) / largest), 3)


def network(data: dict[str, Any]) -> str:
    """Draw the trained network as SVG; the page's script changes the same elements."""
    centers, r = positions(data["widths"]), radius(data["widths"])
    weights = [layer["w"][-1] for layer in data["film"]["weights"]]
    edges = [
        _edge(layer, i, j, w, centers, data["largest_weight"])
        for layer, rows in enumerate(weights)
        for i, row in enumerate(rows)
        for j, w in enumerate(row)
    ]
    neurons = [
        _neuron(layer, i, center, r, data["names"][layer][i])
        for layer, column in enumerate(centers)
        for i, center in enumerate(column)
    ]
    return (
        f'<svg id="net" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="net-t net-d">'
        f'<title id="net-t">The network</title><desc id="net-d">{_described(data)}</desc>'
        f'<g id="edges">{"".join(edges)}</g><g id="ghosts"></g>'
        f'<g id="neurons">{"".join(neurons)}</g><g id="pulses"></g></svg>'
    )


def _edge(layer: int, i: int, j: int, w: Any, centers: Any, largest: float) -> str:
    (x1, y1), (x2, y2) = centers[layer][i], centers[layer + 1][j]
    w = float(w)
    sign = "neg" if w < 0 else "pos"
    return (
        f'<line id="e{layer}-{i}-{j}" class="edge {sign}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" '
        f'stroke-width="{edge_width(w, largest)}"/>'
    )


def _neuron(layer: int, i: int, center: Point, r: float, name: str) -> str:
    x, y = center
    bias = (
        f'<rect id="b{layer}-{i}" class="bias" x="{x - r - 3:.1f}" y="{y + r - 5:.1f}" width="6" '
        'height="6"/>'
        if layer
        else ""
    )
    short = name if len(name) <= 5 else name[:4] + "…"
    return (
        f'<g id="n{layer}-{i}" class="neuron"><circle cx="{x}" cy="{y}" r="{r}"/>{bias}'
        f'<text class="name" x="{x}" y="{y - r - 3:.1f}">{escape(short)}</text>'
        f'<text class="value" x="{x}" y="{y + 4}"></text></g>'
    )


def _described(data: dict[str, Any]) -> str:
    widths, film = data["widths"], data["film"]
    layers = ", then ".join(map(str, widths))
    loss = shown(film["losses"][-1])
    return escape(f"Layers of {layers} neurons, trained until the mean loss was {loss}.")
