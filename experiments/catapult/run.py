"""Beyond which learning rate does the loss rise before it falls, and beyond which does it diverge?

A network with one hidden layer and no activation, f(x) = w . (u x) / sqrt(width), is trained on
one example with half the squared error. The curvature lambda is its neural tangent kernel, the
squared length of df/d(u, w); it is lambda_0 before the first step. With the learning rate
c / lambda_0 training is

- lazy for c < 2: the loss falls at each step;
- a catapult for 2 < c < 4: the loss rises, then converges, where the curvature is smaller;
- divergent for c > 4.

Source: Lewkowycz et al., The large learning rate phase of deep learning: the catapult mechanism
(2020), arXiv 2003.02218.
"""

from dataclasses import dataclass
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float64
from matplotlib.figure import Figure

import fbp
from fbp.laboratory import Check, Outcome

Params = dict[str, Float[Array, " width"]]

INPUT, TARGET = 1.0, 0.0
CONVERGED = 1e-6
COLORS = {
    "lazy": "tab:blue",
    "catapult": "tab:orange",
    "diverged": "tab:red",
    "not converged": "tab:gray",
    "not flatter": "tab:gray",
}


@dataclass(frozen=True)
class Settings:
    """The network and the rates.

    Attributes:
      width: of the hidden layer; the classes are those of a wide network.
      rates: c, the learning rates times lambda_0.
      steps: length of a run.
      seeds: of the weights; every rate is run with each.
    """

    width: int
    rates: tuple[float, ...]
    steps: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """What one run was like, before each step and after the last.

    Attributes:
      c: the learning rate times the first curvature.
      losses: the loss.
      curvatures: lambda.
    """

    c: float
    losses: Float64[np.ndarray, " steps"]
    curvatures: Float64[np.ndarray, " steps"]

    @property
    def published(self) -> str:
        """The class that the paper derives for a wide network."""
        return "lazy" if self.c < 2 else "catapult" if self.c < 4 else "diverged"

    @property
    def observed(self) -> str:
        """The class that it falls in, if any."""
        if not np.isfinite(self.losses[-1]):
            return "diverged"
        if self.losses[-1] > CONVERGED * self.losses[0]:
            return "not converged"
        if self.falls:
            return "lazy"
        return "catapult" if self.flattening < 1 else "not flatter"

    @property
    def falls(self) -> bool:
        """Whether each step lowers the loss, until next to nothing is left."""
        matters = self.losses[:-1] > CONVERGED * self.losses[0]
        return bool(np.all(np.diff(self.losses)[matters] < 0))

    @property
    def peak(self) -> float:
        """The highest loss as a multiple of the first."""
        return float(np.max(self.losses) / self.losses[0])

    @property
    def flattening(self) -> float:
        """The last curvature as a share of the first."""
        return float(self.curvatures[-1] / self.curvatures[0])


def run(settings: Settings) -> Outcome:
    """Train at each rate, and name the class that each run falls in."""
    with jax.enable_x64(True):
        runs = [_train(settings, seed) for seed in settings.seeds]
    right = [sum(each.observed == each.published for each in row) for row in runs]
    rates = len(settings.rates)
    ends = [each.c * each.flattening for row in runs for each in row if each.observed == "catapult"]
    checks = (
        Check("rates in the right class, worst seed", f"all {rates}", min(right), low=rates),
        Check("rate x last curvature, largest of the catapults", "below 2", max(ends), high=2),
    )
    rows = tuple(_row(same_rate) for same_rate in zip(*runs, strict=True))
    return Outcome(checks, rows, {"figure": _figure(runs[0])})


def _train(settings: Settings, seed: int) -> list[Run]:
    """One run for each rate, all from the same weights."""
    names = ("u", "w")
    keys = jax.random.split(jax.random.key(seed), len(names))
    start: Params = {
        name: jax.random.normal(key, (settings.width,))
        for name, key in zip(names, keys, strict=True)
    }

    def output(params: Params) -> Float[Array, ""]:
        return jnp.dot(params["w"], params["u"] * INPUT) / settings.width**0.5

    def curvature(params: Params) -> Float[Array, ""]:
        return optax.tree.norm(fbp.jacrev(output)(params), squared=True)

    def loss_fn(params: Params) -> Float[Array, ""]:
        return (output(params) - TARGET) ** 2 / 2

    def history(rate: Float[Array, ""]):
        tx = optax.sgd(rate)

        def step(state, _):
            params, opt_state = state
            loss, grads = fbp.value_and_grad(loss_fn)(params)
            updates, opt_state = tx.update(grads, opt_state, params)
            new = optax.apply_updates(params, updates), opt_state
            return new, (loss, curvature(params))

        return jax.lax.scan(step, (start, tx.init(start)), length=settings.steps + 1)[1]

    rates = jnp.asarray(settings.rates) / curvature(start)
    losses, curvatures = map(np.asarray, jax.jit(jax.vmap(history))(rates))
    return [Run(*each) for each in zip(settings.rates, losses, curvatures, strict=True)]


def _row(runs: tuple[Run, ...]) -> dict[str, float | str | None]:
    """Tabulate the runs at one rate."""
    ended = [each for each in runs if each.observed != "diverged"]
    return {
        "c": runs[0].c,
        "published": runs[0].published,
        "found": ", ".join(sorted({each.observed for each in runs})),
        "highest loss / first": median([each.peak for each in ended]) if ended else None,
        "last curvature / first": median([each.flattening for each in ended]) if ended else None,
    }


def _figure(runs: list[Run]) -> Figure:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    course, end = figure.subplots(1, 2)
    for each in runs:
        color = COLORS[each.observed]
        course.semilogy(each.losses / each.losses[0], color=color, linewidth=1)
        if each.observed != "diverged":
            end.plot(each.c, each.flattening, "o", color=color)
    course.set(xlabel="step", ylabel="loss / first loss", xlim=(0, 40), ylim=(1e-12, 1e10))
    for kind in ("lazy", "catapult", "diverged"):
        course.plot([], [], color=COLORS[kind], label=kind)
    course.legend(frameon=False, loc="upper right")
    for edge in (2, 4):
        end.axvline(edge, color="black", linewidth=0.8, linestyle=":")
    end.set(
        xlabel="learning rate x first curvature",
        ylabel="last curvature / first curvature",
        xlim=(0, 4.6),
        ylim=(0, 1.1),
    )
    return figure
