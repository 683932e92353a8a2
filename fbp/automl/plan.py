"""How a fit goes about: the network and its training, from the size of the data alone."""

import math
from dataclasses import dataclass

from fbp.automl.networks import Architecture

LEAST_STEPS, MOST_STEPS = 300, 4800


@dataclass(frozen=True)
class Plan:
    """What is built, and how it is trained.

    Attributes:
      architecture: of the network.
      batch_size: examples for each step.
      steps: of a training at most.
      every: steps between two measurements of the validation rows.
      patience: measurements without a lower validation loss after which training ends.
      members: folds; the model averages the networks trained on each of them.
      factors: rates that are tried, as multiples of what the range test suggests.
      short_search: whether the rates are compared in trainings of a quarter of the steps on two
        folds, because full ones would take too long.
      vmapped: whether trainings are computed side by side, or one after the other.
      weight_decay: of AdamW.
    """

    architecture: Architecture
    batch_size: int
    steps: int
    every: int
    patience: int
    members: int
    factors: tuple[float, ...]
    short_search: bool
    vmapped: bool
    weight_decay: float

    @property
    def search_steps(self) -> int:
        """Steps of a training that only compares rates."""
        return math.ceil(self.steps / 4 / self.every) * self.every


def plan_for(rows: int, feature_shape: tuple[int, ...], outputs: int) -> Plan:
    """Return the plan for this many rows to learn from, of this shape.

    >>> plan_for(1000, (10,), 3).architecture
    Architecture(channels=(), widths=(64, 64), outputs=3, dropout=0.1)
    """
    image = len(feature_shape) == 3
    width = 64 if rows < 5000 and math.prod(feature_shape) < 256 else 128
    channels = _channels(feature_shape) if image else ()
    batch_size = 32 if rows < 2000 else 64 if rows < 20_000 else 128
    epochs = 15 if image else 60
    doublings = max(0, math.ceil(math.log2(epochs * rows / batch_size / LEAST_STEPS)))
    steps = min(LEAST_STEPS * 2**doublings, MOST_STEPS)
    return Plan(
        architecture=Architecture(channels, (width,) if image else (width, width), outputs, 0.1),
        batch_size=batch_size,
        steps=steps,
        every=max(20, steps // 30),
        patience=10,
        members=min(5, rows),
        factors=(0.1, 10**-0.5, 1.0, 10**0.5, 10.0),
        short_search=image,
        vmapped=not image,
        weight_decay=0.01,
    )


def _channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Convolutions until the image has about four pixels on its shorter side, three at most."""
    halvings = max(1, min(3, round(math.log2(min(shape[:2]) / 5))))
    return (16, 32, 64)[:halvings]
