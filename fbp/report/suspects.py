"""Name the layer in which a recorded training goes wrong, as a rule before the loss shows it.

A layer is suspected where it says the same at two recorded steps that follow each other; one step
alone may be chance.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from fbp.recording import DEAD, Recording

Values = Float[np.ndarray, " steps"]
IN_A_ROW = 2  # recorded steps that must agree
DEAD_SHARE = 0.9  # of 10 units at most one works; a healthy rectified layer has 0 to 0.5
TOO_LARGE = 0.5  # of a norm in one step; about 0.001 is usual (Karpathy, CS231n), biases begin at 1
GROWTH = 100.0  # times the least norm before: a loss's own decrease makes gradients smaller


@dataclass(frozen=True)
class Suspect:
    """A layer, and what speaks against it.

    Attributes:
      layer: a parameter's path, or a rectified layer's.
      step: the recorded step at which it shows.
      reason: what is wrong and what to try.
    """

    layer: str
    step: int
    reason: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.layer}: {self.reason}"


@dataclass(frozen=True)
class Sign:
    """A sign of trouble in the values of one measure of one layer."""

    measure: str
    shows: Callable[[Values], Bool[np.ndarray, " steps"]]
    reason: str


def _grown(norms: Values) -> Bool[np.ndarray, " steps"]:
    least = np.minimum.accumulate(np.where(norms > 0, norms, np.inf))
    return norms > GROWTH * least


SIGNS = (
    Sign(
        "gradient_norm",
        lambda x: ~np.isfinite(x),
        "its gradient is not finite: trace it by fbp.verify.trace_nonfinite",
    ),
    Sign(
        "zero_share",
        lambda x: x == 1,
        "no gradient arrives: every entry is 0. The loss does not depend on it, its units are "
        "dead, or the gradient underflows",
    ),
    Sign(
        DEAD,
        lambda x: x >= DEAD_SHARE,
        f"{DEAD_SHARE:.0%} of its units or more are 0 for the whole batch: try a smaller rate, or "
        "biases nearer zero",
    ),
    Sign(
        "update_ratio",
        lambda x: x == 0,
        "its updates are lost to rounding: they are smaller than the last digit of its entries. "
        "Try a larger rate, or parameters in float32",
    ),
    Sign(
        "update_ratio",
        lambda x: x > TOO_LARGE,
        f"one step changes it by more than {TOO_LARGE:.0%}: try a smaller rate for it",
    ),
    Sign(
        "gradient_norm",
        _grown,
        f"its gradient has grown {GROWTH:.0f} times: try a smaller rate, or clipping",
    ),
)


def suspects(recording: Recording) -> list[Suspect]:
    """Name the layers that go wrong, each with the first step at which it shows.

    Args:
      recording: `TrainResult.recording` or `TrainResult.last_steps`.

    Returns:
      The suspects, the earliest first; of one step, those that nothing passes through first. A
      layer is named once, by its first sign.

    >>> from fbp.recording import recording_of
    >>> rows = [{"zero_share": {"0/w": 0.1, "1/w": 1.0}}] * 3
    >>> for suspect in suspects(recording_of([10, 20, 30], rows)):
    ...     print(suspect.step, suspect.layer)
    20 1/w
    """
    named: dict[str, tuple[int, int, Suspect]] = {}
    for rank, sign in enumerate(SIGNS):
        for layer, values in recording.measures.get(sign.measure, {}).items():
            index = _first(sign.shows(np.asarray(values)))
            if index is None:
                continue
            suspect = Suspect(layer, recording.steps[index], sign.reason)
            candidate = (index, rank, suspect)
            named[layer] = min(named.get(layer, candidate), candidate, key=lambda c: c[:2])
    return [suspect for _, _, suspect in sorted(named.values(), key=lambda c: c[:2])]


def _first(shown: Bool[np.ndarray, " steps"]) -> int | None:
    """Return where `IN_A_ROW` recorded steps first agree."""
    run = 0
    for i, each in enumerate(shown):
        run = run + 1 if each else 0
        if run == IN_A_ROW:
            return i
    return None
