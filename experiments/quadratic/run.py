"""At which learning rate does gradient descent diverge on a quadratic?

On f(x) = x' A x / 2 the rate may not exceed 2 / lambda_max, and with momentum b

- Polyak:     (2 + 2b) / lambda_max
- Nesterov:   (2 + 2b) / ((1 + 2b) lambda_max)
- of an exponential moving average of gradients: (2 + 2b) / ((1 - b) lambda_max)

Source: Cohen et al., Gradient descent on neural networks typically occurs at the edge of
stability (2021), arXiv 2103.00065, appendix B; Cohen et al., arXiv 2207.14484, for the average.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import fbp
from fbp.laboratory import Check, Outcome

Rate = Float[Array, ""] | float
Growth = Callable[[Rate], Float[Array, " steps"]]


@dataclass(frozen=True)
class Settings:
    """The quadratic, and how closely its threshold is looked for.

    Attributes:
      dimensions: length of x; the eigenvalues of A are spread evenly up to the largest.
      largest_eigenvalue: lambda_max.
      momentum: b.
      steps: steps after which the distance from the minimum is compared with the first one.
      bisections: halvings of the interval that holds the threshold.
      figure_steps: steps of each run in the figure: few, so that the distance does not overflow.
      points: rates in the figure, for each optimizer.
      seed: of A's eigenvectors and of the start.
    """

    dimensions: int
    largest_eigenvalue: float
    momentum: float
    steps: int
    bisections: int
    figure_steps: int
    points: int
    seed: int


def run(settings: Settings) -> Outcome:
    """Bisect for the threshold of each optimizer."""
    methods = _methods(settings.momentum)
    with jax.enable_x64(True):
        edges = {
            name: _bisect(
                _growth(settings, method, settings.steps),
                product / settings.largest_eigenvalue,
                settings.bisections,
            )
            for name, (method, product) in methods.items()
        }
        figure = _figure(settings)
    checks = tuple(
        Check(
            f"threshold x lambda_max, {name}",
            f"{product:.6g}",
            edges[name] * settings.largest_eigenvalue,
            product * (1 - 1e-3),
            product * (1 + 1e-3),
        )
        for name, (_, product) in methods.items()
    )
    return Outcome(checks, figures={"figure": figure})


def _methods(b: float) -> dict[str, tuple[Callable[[Rate], optax.GradientTransformation], float]]:
    """Each optimizer as a function of its rate, and its threshold times lambda_max."""
    return {
        "gradient descent": (optax.sgd, 2.0),
        "Polyak momentum": (lambda rate: optax.sgd(rate, b), 2 + 2 * b),
        "Nesterov momentum": (
            lambda rate: optax.sgd(rate, b, nesterov=True),
            (2 + 2 * b) / (1 + 2 * b),
        ),
        "momentum of an average": (
            lambda rate: optax.chain(optax.ema(b, debias=False), optax.scale(-rate)),
            (2 + 2 * b) / (1 - b),
        ),
    }


def _growth(settings: Settings, method: Callable, steps: int) -> Growth:
    """`rate -> log of (distance / first distance)` from the minimum, after each step."""
    rng = np.random.default_rng(settings.seed)
    vectors, _ = np.linalg.qr(rng.normal(size=(settings.dimensions, settings.dimensions)))
    top = settings.largest_eigenvalue
    matrix = jnp.asarray(vectors * np.linspace(top / 20, top, settings.dimensions) @ vectors.T)
    start = jnp.asarray(rng.normal(size=settings.dimensions))
    gradient = fbp.grad(lambda x: x @ matrix @ x / 2)

    @jax.jit
    def growth(rate: Rate) -> Float[Array, " steps"]:
        tx = method(rate)

        def step(state, _):
            x, opt_state = state
            updates, opt_state = tx.update(gradient(x), opt_state, x)
            x = optax.apply_updates(x, updates)
            return (x, opt_state), jnp.linalg.norm(x)

        _, distances = jax.lax.scan(step, (start, tx.init(start)), length=steps)
        return jnp.log(distances / jnp.linalg.norm(start))

    return growth


def _bisect(growth: Growth, published: float, bisections: int) -> float:
    """Bisect for the rate above which the distance grows, from half to twice the published one."""
    low, high = published / 2, published * 2
    for _ in range(bisections):
        middle = (low + high) / 2
        low, high = (middle, high) if growth(middle)[-1] <= 0 else (low, middle)
    return (low + high) / 2


def _figure(settings: Settings) -> Figure:
    """Draw the factor by which a step multiplies the distance, after the first steps."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    half = settings.figure_steps // 2
    for name, (method, product) in _methods(settings.momentum).items():
        products = product * np.linspace(0.6, 1.15, settings.points)
        rates = jnp.asarray(products / settings.largest_eigenvalue)
        logs = jax.lax.map(_growth(settings, method, 2 * half), rates)
        slopes, _ = np.polyfit(np.arange(half), logs[:, half:].T, deg=1)
        factors = np.exp(slopes)
        (line,) = axes.semilogx(products, factors, label=name)
        axes.axvline(product, color=line.get_color(), linewidth=0.8, linestyle=":")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(ticks := [1, 2, 5, 10, 20, 50], map(str, ticks))
    axes.minorticks_off()
    axes.set(
        xlabel="learning rate x largest eigenvalue",
        ylabel="distance from the minimum,\nfactor per step",
        ylim=(0.9, 1.3),
    )
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.66, 1))
    return figure
