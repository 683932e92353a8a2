"""The work: the same trials, data, batches and optimizer for every contender. No JAX here."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int32

Kind = Literal["mlp", "cnn"]
RATES = tuple(float(f"{rate:.6g}") for rate in np.geomspace(1e-4, 1e-1, 8))
SEEDS, BATCH, CLASSES = 4, 64, 10
B1, B2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, for all


@dataclass(frozen=True, eq=False)
class Work:
    """What a contender trains: 8 rates x some seeds, batches of 64, Adam.

    Attributes:
      kind: `mlp`, one hidden layer; `cnn`, two 3 x 3 convolutions, each with a 2 x 2
        max-pooling, and one hidden layer. ReLU throughout.
      width: of the MLP's hidden layer; a CNN of width w has w/2 and w channels, and 2 w units.
      x: the images, flat for an MLP.
      y: their classes.
      orders: for each seed and step, the examples of the batch.
    """

    kind: Kind
    width: int
    x: Float32[np.ndarray, "examples ..."]
    y: Int32[np.ndarray, " examples"]
    orders: Int32[np.ndarray, "seeds steps batch"]

    @property
    def steps(self) -> int:
        """Steps of each trial."""
        return self.orders.shape[1]

    @property
    def trials(self) -> list[tuple[float, int]]:
        """Rate and seed of every trial."""
        return [(rate, seed) for rate in RATES for seed in range(self.seeds)]

    @property
    def seeds(self) -> int:
        """How many seeds each rate is tried with."""
        return len(self.orders)

    @property
    def some_trials(self) -> list[tuple[float, int]]:
        """Each rate once: enough for a contender that trains one trial after another."""
        return [(rate, number % self.seeds) for number, rate in enumerate(RATES)]

    @property
    def channels(self) -> tuple[int, int]:
        """Features of the convolutions."""
        return self.width // 2, self.width

    @property
    def hidden(self) -> int:
        """Units of the hidden layer."""
        return self.width if self.kind == "mlp" else 2 * self.width

    @property
    def features(self) -> int:
        """Inputs of the hidden layer: pixels, or what the convolutions leave of the image."""
        if self.kind == "mlp":
            return self.x.shape[1]
        _, height, width, _ = self.x.shape
        return (height // 4) * (width // 4) * self.channels[1]


def work_of(
    kind: Kind, width: int, steps: int, x: np.ndarray, y: np.ndarray, seeds: int = SEEDS
) -> Work:
    """Make the work on these examples; `x` holds images `(examples, height, width, 1)`."""
    rng = np.random.default_rng(0)
    orders = rng.integers(0, len(x), (seeds, steps, BATCH), dtype=np.int32)
    flat = x.reshape(len(x), -1) if kind == "mlp" else x
    return Work(kind, width, np.ascontiguousarray(flat), y.astype(np.int32), orders)
