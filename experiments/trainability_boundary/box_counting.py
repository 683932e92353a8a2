"""How rough the boundary between two regions of a picture is."""

import numpy as np
from jaxtyping import Bool

Region = Bool[np.ndarray, "rows columns"]

SMALLEST_GRID = 8


def boundary(region: Region) -> Region:
    """Mark the cells of a grid whose four corners are not all on one side; one row and column less.

    >>> print(boundary(np.array([[True, True, False], [True, True, False]])))
    [[False  True]]
    """
    corners = np.stack([region[1:, 1:], region[1:, :-1], region[:-1, 1:], region[:-1, :-1]])
    return np.asarray(corners.any(axis=0) & ~corners.all(axis=0))


def box_counts(cells: Region) -> dict[int, int]:
    """How many boxes of each size hold a marked cell: sizes 1, 2, 4, ..., an eighth of a side.

    Boxes begin at the first row and column; the last ones may stick out.

    >>> box_counts(np.eye(32, dtype=bool))
    {1: 32, 2: 16, 4: 8}
    """
    side = min(cells.shape)
    sizes = [2**power for power in range(side.bit_length()) if 2**power * SMALLEST_GRID <= side]
    return {size: int(_boxes(cells, size).sum()) for size in sizes}


def dimension(cells: Region) -> float:
    """Return the box-counting dimension of the marked cells: 1 for a curve, 2 for an area.

    N(s) boxes of size s grow as s^-D: D is minus the slope of the straight line fitted to log N(s)
    against log s. A picture without marked cells has dimension 0.

    Mandelbrot, The fractal geometry of nature, 1982; Falconer, Fractal geometry, chapter 3.

    >>> round(dimension(np.eye(64, dtype=bool)), 3), round(dimension(np.ones((64, 64), bool)), 3)
    (1.0, 2.0)
    """
    if not cells.any():
        return 0.0
    counts = box_counts(cells)
    slope, _ = np.polyfit(np.log(list(counts)), np.log(list(counts.values())), deg=1)
    return -float(slope)


def _boxes(cells: Region, size: int) -> Region:
    padding = [(0, -side % size) for side in cells.shape]
    rows, columns = (-(-side // size) for side in cells.shape)
    blocks = np.pad(cells, padding).reshape(rows, size, columns, size)
    return np.asarray(blocks.any(axis=(1, 3)))
