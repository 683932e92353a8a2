"""The limit of a sequence of inexact values, with an error bar."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number, known to within `error`: nan and inf where nothing is known."""

    value: float
    error: float


UNKNOWN = Estimate(math.nan, math.inf)


def extrapolate(values: np.ndarray, noise: np.ndarray, orders: tuple[int, ...]) -> Estimate:
    """Return the limit of a sequence over halved steps h, of which each value is off by up to its
    noise.

    If values[k] = limit + a h^p + b h^q + ..., with orders (p, q, ...), then
    (2^p values[k+1] - values[k]) / (2^p - 1) has no h^p term, and so on: Richardson's table. The
    error of an entry is taken to be the sum of

    - its distances from the entries around it, or those of the entry before, shrunk as they
      should be, if they are larger: distances may be small by accident,
    - the noise of the values in it, weighted as they are,
    - how far the rest of the sequence still goes, if that converges more slowly than h,
    - how far the entry is from what the values of smaller steps leave open.

    Of all entries that with the least error is the estimate. Values up to the last NaN are left
    out; of fewer than three nothing is known.

    Source: C. J. F. Ridders, Accurate computation of F'(x) and F'(x)F''(x), Advances in
    Engineering Software 4 (1982).

    >>> h = 0.5 ** np.arange(12)
    >>> found = extrapolate(np.sin(h) / h, noise=1e-16 / h, orders=(2, 4, 6))
    >>> abs(found.value - 1) <= found.error < 1e-12
    True
    """
    first = int(np.flatnonzero(~np.isfinite(values))[-1]) + 1 if np.any(~np.isfinite(values)) else 0
    values, noise = values[first:], noise[first:]
    if len(values) < 3:
        return UNKNOWN
    change = abs(np.diff(values, prepend=np.nan))
    ratio = _ratio(change, noise)
    with np.errstate(invalid="ignore", divide="ignore"):
        tail = np.where(ratio < 1, change * ratio / (1 - ratio), np.inf)
    slow = np.where(ratio > 0.6, 2 * tail, 0)
    left_open = 2 * np.maximum(change, np.where(ratio < 1, tail, change)) + noise
    best = UNKNOWN
    column, spread, moved = values, noise, 2 * np.maximum(change, tail)
    for order in orders:
        before = np.nan_to_num(np.concatenate([[0.0], moved[:-1]]), posinf=np.inf)
        moved = np.maximum(moved, before / 2**order)
        error = moved + spread + slow[-len(column) :] + _contradiction(column, values, left_open)
        if np.nanmin(error, initial=np.inf) < best.error:
            at = np.nanargmin(error)
            best = Estimate(float(column[at]), float(error[at]))
        if len(column) < 3:
            break
        weight = 2.0**order
        finer = (weight * column[1:] - column[:-1]) / (weight - 1)
        spread = (weight * spread[1:] + spread[:-1]) / (weight - 1)
        moved = np.maximum(abs(finer - column[1:]), abs(finer - column[:-1]))
        moved += abs(np.diff(finer, prepend=np.nan))
        column = finer
    return best


def _ratio(change: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return by how much each change is less than the one before; 1 for the first, which may be
    anything. Where noise hides it, as when last seen; if it never was, or if the change that this
    predicts would be seen, a half."""
    floor = noise + np.roll(noise, 1)
    ratios, last, predicted = [0.5], 0.5, 0.0
    for k in range(1, len(change)):
        predicted *= last
        if change[k] > floor[k]:
            last = change[k] / change[k - 1] if k > 1 and change[k - 1] > 0 else 0.5
            predicted = change[k]
        elif predicted > floor[k]:
            last, predicted = 0.5, 0.0
        ratios.append(1.0 if k == 1 and change[k] > floor[k] else last)
    return np.array(ratios)


def _contradiction(column: np.ndarray, values: np.ndarray, left_open: np.ndarray) -> np.ndarray:
    """Return how far each entry is from the bars around the values of smaller steps, at most."""
    beyond = abs(column[:, None] - values) - left_open
    smaller = np.triu(np.ones(beyond.shape, bool), len(values) - len(column) + 1)
    return np.max(np.where(smaller, beyond, 0), axis=1, initial=0.0)
