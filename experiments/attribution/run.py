"""What did a network look at, and does the map change when the network forgets what it learned?

An MLP with ReLU learns 8x8 digits. Maps of the input for the network's own answer: saliency,
gradient times input, guided backpropagation, deconvolution, and LRP by four rules, all edits of
`fbp.gallery` on the same function.

- A ground truth: relevance without biases sums up to the answer's logit.
- The sanity check by randomized weights (Adebayo et al. 2018): the weights are drawn again, from
  the last layer down. A map that explains the network has to change with it; guided
  backpropagation and deconvolution are known to change less (Nie et al. 2018; Sixt et al. 2020).

Source: Adebayo et al., Sanity checks for saliency maps, arXiv 1810.03292; Nie, Zhang and Patel,
arXiv 1805.07039; Sixt, Granz and Landgraf, arXiv 1912.09818.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import fbp
from experiments.feedback.run import loss_of, split
from fbp import gallery, nn
from fbp.laboratory import Check, Outcome

Fun = Callable[[jax.Array], jax.Array]
Method = Callable[[Fun], Callable[[jax.Array], jax.Array]]

BOX = [(0, gallery.z_box(0.0, 1.0)), (None, gallery.z_plus())]
METHODS: dict[str, Method] = {
    "saliency": gallery.saliency,
    "gradient x input": lambda f: lambda x: x * fbp.grad(lambda x: jnp.sum(f(x)))(x),
    "guided": gallery.guided_backprop,
    "deconvolution": gallery.deconvolution,
    "LRP epsilon": lambda f: gallery.lrp(f, gallery.epsilon()),
    "LRP gamma": lambda f: gallery.lrp(f, gallery.gamma()),
    "LRP alpha 2 beta 1": lambda f: gallery.lrp(f, gallery.alpha_beta()),
    "LRP z+, zB first": lambda f: gallery.lrp(f, BOX),
}


@dataclass(frozen=True)
class Settings:
    """The network, how it is trained, and what its maps are held against.

    Attributes:
      widths: of the hidden layers, without biases.
      epochs, batch_size, learning_rate: of Adam.
      pictures: how many digits of the test set are drawn.
      compared: how many the numbers are means of.
      seed: of weights, batches and the weights that are drawn again.
      ground: the least test accuracy: below it there is nothing to explain.
      plain: the largest rank correlation, of either sign, of gradient x input with itself after all
        weights are drawn again.
      guided: by how much at least guided backpropagation is more like itself than gradient x input
        is, after the weights of all layers but the first are drawn again.
    """

    widths: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    pictures: int
    compared: int
    seed: int
    ground: float
    plain: float
    guided: float


def run(settings: Settings) -> Outcome:
    """Train, draw the maps, and draw the weights again, layer by layer."""
    x_train, y_train, x_test, y_test = split(0.2)
    hidden = [x for w in settings.widths for x in (nn.dense(w, bias=False), nn.relu())]
    network = nn.serial(*hidden, nn.dense(10, bias=False))
    params = trained(network, settings, x_train, y_train)
    x = x_test[: settings.compared]
    answers = jnp.argmax(network.apply(params, x), axis=-1)
    maps = jax.jit(lambda params: maps_of(network, params, x, answers))
    stages = randomized(network, params, settings.seed)
    drawn = [jax.tree.map(np.asarray, maps(stage)) for stage in stages]
    correlations = {
        name: [rank_correlation(drawn[0][name], stage[name]) for stage in drawn] for name in METHODS
    }
    logits = jnp.max(network.apply(params, x), axis=-1)
    lost = jnp.abs(drawn[0]["LRP epsilon"].sum(-1) / logits - 1).max()
    accuracy = jnp.mean(jnp.argmax(network.apply(params, x_test), axis=-1) == y_test)
    checks = (
        Check("test accuracy", "-", float(accuracy), low=settings.ground),
        Check("LRP epsilon: part of the logit that is lost, largest", "0", float(lost), high=1e-2),
        Check(
            "gradient x input: rank correlation, all weights drawn again",
            "about 0 (Adebayo et al. 2018)",
            correlations["gradient x input"][-1],
            low=-settings.plain,
            high=settings.plain,
        ),
        Check(
            "guided - gradient x input: rank correlation, all layers but the first drawn again",
            "above 0: guided stays (Adebayo et al. 2018)",
            correlations["guided"][-2] - correlations["gradient x input"][-2],
            low=settings.guided,
        ),
    )
    rows = [
        {"method": name, **{f"layers drawn again: {i}": v for i, v in enumerate(values)}}
        for name, values in correlations.items()
    ]
    figures = {
        "figure": pictures(x[: settings.pictures], answers, drawn[0]),
        "sanity": curves(correlations),
    }
    return Outcome(checks, tuple(rows), figures)


def trained(network: nn.Layer, settings: Settings, x: jax.Array, y: jax.Array) -> Any:
    """Return the parameters after training."""
    tx = optax.adam(settings.learning_rate)
    loss = lambda params, rows: loss_of(network.apply(params, x[rows]), y[rows])
    batches = len(x) // settings.batch_size

    def step(state: tuple, rows: jax.Array) -> tuple:
        params, opt_state = state
        updates, opt_state = tx.update(fbp.grad(loss)(params, rows), opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), None

    def epoch(state: tuple, key: jax.Array) -> tuple:
        order = jax.random.permutation(key, len(x))[: batches * settings.batch_size]
        return jax.lax.scan(step, state, order.reshape(batches, -1))

    key = jax.random.key(settings.seed)
    params, _ = network.init(key, (-1, x.shape[1]))
    keys = jax.random.split(jax.random.fold_in(key, 1), settings.epochs)
    return jax.jit(lambda state: jax.lax.scan(epoch, state, keys)[0])((params, tx.init(params)))[0]


def maps_of(network: nn.Layer, params: Any, x: jax.Array, answers: jax.Array) -> dict[str, Any]:
    """Return the maps [n, pixels] by method, of the logit of each picture's answer."""
    logit = lambda x: jnp.take_along_axis(network.apply(params, x), answers[:, None], axis=1)[:, 0]
    return {name: method(logit)(x) for name, method in METHODS.items()}


def randomized(network: nn.Layer, params: Any, seed: int) -> list[Any]:
    """Return the parameters, and these with the last, the last two, ... layers drawn again."""
    names = [name for name, layer in params.items() if jax.tree.leaves(layer)]
    size = params[names[0]]["kernel"].shape[0]
    fresh, _ = network.init(jax.random.key(seed + 1000), (-1, size))
    again = [set(names[len(names) - i :]) for i in range(len(names) + 1)]
    return [{k: fresh[k] if k in some else v for k, v in params.items()} for some in again]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean over pictures of Spearman's correlation of two maps, with their signs: of
    absolute values, the pixels at which a picture is empty would decide."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x.any() and y.any()]
    return float(np.mean([np.asarray(spearmanr(x, y))[0] for x, y in pairs]))


def pictures(x: Any, answers: Any, maps: Mapping[str, np.ndarray]) -> Figure:
    """Draw the digits and their maps, red for, blue against the answer."""
    figure = Figure(figsize=(1.1 * (len(maps) + 1), 1.15 * len(x)), layout="constrained")
    grid = np.asarray(figure.subplots(len(x), len(maps) + 1)).reshape(len(x), -1)
    for row, picture in enumerate(x):
        grid[row, 0].imshow(picture.reshape(8, 8), cmap="gray_r")
        grid[row, 0].set_ylabel(f"a {int(answers[row])}", fontsize="small")
        for axes, (name, of_all) in zip(grid[row, 1:], maps.items(), strict=True):
            values = of_all[row].reshape(8, 8)
            largest = np.abs(values).max() or 1
            axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest)
            if not row:
                axes.set_title(name.replace(", ", ",\n").replace(" a", "\na"), fontsize=6)
    for axes in grid.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def curves(correlations: Mapping[str, list[float]]) -> Figure:
    """Draw how like itself a map stays while layers are drawn again."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for name, values in correlations.items():
        axes.plot(range(len(values)), values, "o-", markersize=3, label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="layers drawn again, from the last", ylabel="rank correlation with the map")
    axes.set_xticks(range(len(next(iter(correlations.values())))))
    axes.legend(frameon=False, fontsize="x-small", ncols=2)
    return figure
