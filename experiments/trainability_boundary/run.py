"""How rough is the boundary between learning rates that train a network and those that do not?

A network with one hidden layer of tanh is trained by gradient descent with one learning rate for
its first layer and another for its second. A grid of both is a picture: where the loss ends below
its first value the network has trained, elsewhere it has not. The boundary is a fractal: however
small the part of the picture that is computed anew, it does not become smooth.

Source: Sohl-Dickstein, The boundary of neural network trainability is fractal (2024), arXiv
2402.06184, whose network, data and measure of convergence these are. The published pictures have
width 16 and 500 steps or more; width 8 and 100 steps are what the author's script begins with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64
from matplotlib import colormaps
from matplotlib.figure import Figure

from experiments.trainability_boundary.box_counting import boundary, dimension
from experiments.trainability_boundary.training import Speed, convergence_speed
from fbp.laboratory import Check, Outcome

Picture = Float64[np.ndarray, "rows columns"]
Rates = Float64[np.ndarray, "rows columns 2"]

NOISE = 0.02
SAMPLED = 4
COLORS = 32


@dataclass(frozen=True)
class Settings:
    """The network and the pictures.

    Attributes:
      width: of the input and the hidden layer.
      steps: length of a training run.
      first, second: log10 of the layers' learning rates in the middle of the pictures.
      span: decades that the first picture covers, each way.
      magnification: from one picture to the next.
      pictures: how many.
      resolution: rates along a side of a picture.
      at_once: runs side by side; the others wait.
      seed: of the weights and the data.
    """

    width: int
    steps: int
    first: float
    second: float
    span: float
    magnification: float
    pictures: int
    resolution: int
    at_once: int
    seed: int


@dataclass(frozen=True)
class Window:
    """A square of learning rates, on logarithmic axes.

    Attributes:
      first, second: log10 of the layers' rates in the middle.
      span: decades each way.
    """

    first: float
    second: float
    span: float

    def axis(self, middle: float, points: int) -> Float64[np.ndarray, " points"]:
        """log10 of the rates along a side."""
        return np.linspace(middle - self.span / 2, middle + self.span / 2, points)

    def rates(self, points: int) -> Rates:
        """Return the pairs of rates; the second layer's grows from row to row."""
        axes = (10 ** self.axis(middle, points) for middle in (self.first, self.second))
        return np.stack(np.meshgrid(*axes), axis=-1)


@dataclass(frozen=True)
class Shot:
    """A picture of a window: how each run goes, and what one unit in the last place changes.

    Attributes:
      window: where it is.
      picture: above 0 where a run converges, by row and column.
      noise: of a sample of the runs, the share that ends otherwise where the rates are the next
        larger numbers of float64: what rounding decides rather than the rates.
    """

    window: Window
    picture: Picture
    noise: float

    @property
    def dimension(self) -> float:
        """The dimension of the boundary between runs that converge and runs that do not."""
        return dimension(boundary(self.picture > 0))


def run(settings: Settings) -> Outcome:
    """Draw picture after picture, each a smaller part of the one before."""
    with jax.enable_x64(True):
        shots = list(_zoom(settings))
    published = "1.17 to 1.98 in six settings"
    middle, deepest = median(shot.dimension for shot in shots), shots[-1]
    checks = (
        Check("dimension of the boundary, median of the pictures", published, middle, 1.05, 2),
        Check("dimension in the deepest picture", published, deepest.dimension, 1.05, 2),
        Check("share of it that rounding decides", "next to none", deepest.noise, high=NOISE),
    )
    rows = tuple(_row(number, shot) for number, shot in enumerate(shots))
    return Outcome(checks, rows, {"figure": _figure(shots)})


def _zoom(settings: Settings) -> Iterator[Shot]:
    speed = convergence_speed(settings.width, settings.steps, settings.seed, settings.at_once)
    for number in range(settings.pictures):
        span = settings.span / settings.magnification**number
        yield _shoot(speed, Window(settings.first, settings.second, span), settings.resolution)


def _shoot(speed: Speed, window: Window, points: int) -> Shot:
    rates = window.rates(points)
    picture = _picture(speed, rates)
    some = rates[::SAMPLED, ::SAMPLED]
    moved = _picture(speed, np.nextafter(some, np.inf))
    changed = (picture[::SAMPLED, ::SAMPLED] > 0) != (moved > 0)
    return Shot(window, picture, float(np.mean(changed)))


def _picture(speed: Speed, rates: Rates) -> Picture:
    return np.asarray(speed(jnp.asarray(rates.reshape(-1, 2)))).reshape(rates.shape[:2])


def _row(number: int, shot: Shot) -> dict[str, float | int]:
    window, points = shot.window, len(shot.picture)
    rates = 10 ** window.axis(window.first, points)
    return {
        "picture": number,
        "decades": window.span,
        "log10 rate, first layer": window.first,
        "second layer": window.second,
        "rates a side": points,
        "different in float32": len(np.unique(rates.astype(np.float32))),
        "converged": float(np.mean(shot.picture > 0)),
        "decided by rounding": shot.noise,
        "dimension": shot.dimension,
    }


def _figure(shots: list[Shot]) -> Figure:
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    panels = figure.subplots(2, -(-len(shots) // 2)).ravel()
    for panel in panels:
        panel.set_axis_off()
    few_colors = colormaps["Spectral"].resampled(COLORS)
    for panel, shot in zip(panels, shots, strict=False):
        panel.imshow(
            _ranks(shot.picture),
            origin="lower",
            cmap=few_colors,
            vmin=-1,
            vmax=1,
            interpolation="nearest",
        )
        panel.set_title(
            f"{shot.window.span:.1g} decades wide\ndimension {shot.dimension:.2f}", fontsize=9
        )
    figure.supxlabel("learning rate of the first layer (logarithmic)", fontsize=10)
    figure.supylabel("learning rate of the second layer (logarithmic)", fontsize=10)
    return figure


def _ranks(picture: Picture) -> Picture:
    """Colours that use the whole scale: the rank among the trained, or among the others."""
    ranks = np.empty_like(picture)
    for side in (picture > 0, picture <= 0):
        order = np.argsort(np.argsort(np.abs(picture[side])))
        ranks[side] = np.sign(picture[side]) * (0.2 + 0.8 * order / max(len(order), 1))
    return ranks
