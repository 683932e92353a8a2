"""The pictures of a fit: every one is a function from its story to a Figure."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fbp.automl.story import Story
from fbp.report.drawing import ACCENT, LOSS, WIDTH, show_losses

TRAINING, VALIDATION = "#2166ac", "#b35806"
MOST_NUMBERED = 12  # classes of a confusion matrix whose cells show their number
MOST_NAMED = 30
MOST_DRAWN = 2000  # points that a figure draws one by one


def story_figures(story: Story) -> dict[str, tuple[Figure, str]]:
    """Draw every figure, under its name and with its caption."""
    outcome = (
        {"confusion": (confusion(story), _confusion_caption(story))}
        if story.task == "classification"
        else {"residuals": (residual_plot(story), _residuals_caption(story))}
    )
    return outcome | {
        "learning_curve": (
            learning_curve(story),
            f"The loss while the {story.plan.members} networks of the model learn, at the rate "
            f"{story.rate:.2g}: a line is their mean, its band reaches from the lowest to the "
            "highest. The parameters of each one's lowest validation loss (dots) are kept.",
        ),
        "range_test": (
            rate_range(story),
            "The range test is one short training in which the rate grows at every step: the loss "
            "falls fastest at the dotted line, around which the sweep looks for the best rate.",
        ),
        "rate_sweep": (
            rate_sweep(story),
            "The sweep: the lowest validation loss of each training (dots) at each rate, and "
            "their mean (line). The rate of the lowest mean is chosen.",
        ),
    }


def learning_curve(story: Story) -> Figure:
    """Training and validation loss against the step."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes, curve = figure.subplots(), story.curve
    for losses, name, color, style in (
        (np.array(curve.training, float), "training", TRAINING, "--"),
        (np.array(curve.validation, float), "validation", VALIDATION, "-"),
    ):
        axes.fill_between(
            curve.steps, losses.min(axis=0), losses.max(axis=0), color=color, alpha=0.15, lw=0
        )
        axes.plot(curve.steps, losses.mean(axis=0), style, color=color, label=name)
    validation = np.array(curve.validation, float)
    lowest = np.nanargmin(validation, axis=1)
    axes.plot(
        [curve.steps[i] for i in lowest],
        np.nanmin(validation, axis=1),
        "o",
        color=VALIDATION,
        markersize=5,
        label="kept",
        zorder=3,
    )
    _constant(axes, story)
    axes.set(xlabel="step (parameter updates)", ylabel=LOSS[story.task])
    _show_losses(axes, story)
    axes.grid(alpha=0.3)
    _legend(figure, axes)
    return figure


def rate_range(story: Story) -> Figure:
    """Smoothed training loss against the growing rate."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes, test = figure.subplots(), story.range_test
    losses = np.array(test.losses, float)
    axes.plot(test.rates, losses, color=TRAINING, label="smoothed training loss")
    axes.axvline(test.suggestion, color=ACCENT, linestyle=":", label="falls fastest")
    axes.axvspan(
        min(_rates(story)),
        max(_rates(story)),
        color=ACCENT,
        alpha=0.08,
        lw=0,
        label="rates of the sweep",
    )
    top = 3 * max(np.nan_to_num(losses[0]), story.constant_loss)
    axes.set(xscale="log", xlabel="learning rate", ylabel=LOSS[story.task])
    axes.set_ylim(bottom=0, top=min(top, 1.05 * np.nanmax(losses)))
    axes.grid(alpha=0.3)
    _legend(figure, axes)
    return figure


def rate_sweep(story: Story) -> Figure:
    """Plot validation loss against the rate, of each training and their mean."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    complete = [tried for tried in story.rates if None not in tried.losses]
    _plot_trainings(axes, story)
    rates, means = [t.rate for t in complete], [t.mean_loss for t in complete]
    axes.plot(rates, means, "-s", color=TRAINING, label="mean")
    chosen = min(complete, key=lambda tried: tried.mean_loss)
    axes.plot(
        chosen.rate,
        chosen.mean_loss,
        "*",
        markersize=16,
        markerfacecolor="none",
        color=ACCENT,
        label=f"chosen: {chosen.rate:.2g}",
    )
    _constant(axes, story)
    axes.set(xscale="log", xlabel="learning rate", ylabel=f"validation {LOSS[story.task]}")
    _show_losses(axes, story)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], chosen.mean_loss / 20))
    axes.grid(alpha=0.3)
    _legend(figure, axes)
    return figure


def confusion(story: Story) -> Figure:
    """How many rows of each class were taken for which."""
    counts = confusion_matrix(story)
    size = len(counts)
    figure = Figure(figsize=(WIDTH, 0.85 * WIDTH), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    if size <= MOST_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=color)
    axes.set(xlabel="predicted", ylabel="true")
    if size <= MOST_NAMED:
        names = [_short(name, 16) for name in story.classes]
        long = max(map(len, names)) > 3
        axes.set_yticks(range(size), names, parse_math=False)
        axes.set_xticks(
            range(size),
            names,
            parse_math=False,
            rotation=45 if long else 0,
            ha="right" if long else "center",
            rotation_mode="anchor" if long else "default",
        )
    return figure


def confusion_matrix(story: Story) -> np.ndarray:
    """Rows of each true class (first axis) that were predicted as each class."""
    counts = np.zeros((len(story.classes),) * 2, np.int64)
    np.add.at(counts, (np.array(story.truth, int), np.array(story.predicted, int)), 1)
    return counts


def residual_plot(story: Story) -> Figure:
    """Predicted against true values, and what remains between them."""
    truth, predicted = np.array(story.truth), np.array(story.predicted)
    figure = Figure(figsize=(WIDTH, 7.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    above.plot(ends, ends, color="black", linewidth=1, linestyle="--", label="predicted = true")
    many = len(truth) > MOST_DRAWN
    above.plot(
        predicted,
        truth,
        "o",
        color=TRAINING,
        alpha=0.5,
        markersize=4,
        label="one row",
        rasterized=many,
    )
    above.set_ylabel(f"true {_short(story.target)}", parse_math=False)
    above.legend(loc="upper left")
    below.axhline(0, color="black", linewidth=1, linestyle="--")
    below.plot(
        predicted,
        truth - predicted,
        "o",
        color=TRAINING,
        alpha=0.5,
        markersize=4,
        rasterized=many,
    )
    below.set_xlabel(f"predicted {_short(story.target)}", parse_math=False)
    below.set_ylabel("true - predicted")
    below.xaxis.set_major_locator(MaxNLocator(8))
    for axes in (above, below):
        axes.grid(alpha=0.3)
    return figure


def _plot_trainings(axes: Axes, story: Story) -> None:
    """Plot the loss of each training at its rate; those that diverged as crosses at the top."""
    tried = [(t.rate, loss) for t in story.rates for loss in t.losses if loss is not None]
    rates, losses = [rate for rate, _ in tried], [loss for _, loss in tried]
    axes.plot(rates, losses, "o", color=TRAINING, alpha=0.4, markersize=4, label="one training")
    lost = [tried.rate for tried in story.rates if None in tried.losses]
    if lost:
        top = axes.get_xaxis_transform()
        axes.plot(lost, [0.95] * len(lost), "x", color=ACCENT, label="diverged", transform=top)


def _short(name: str, length: int = 60) -> str:
    """Return a name on one line, cut off where it is long."""
    name = " ".join(name.split())
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _rates(story: Story) -> list[float]:
    return [tried.rate for tried in story.rates]


def _constant(axes: Axes, story: Story) -> None:
    axes.axhline(
        story.constant_loss, color="black", linewidth=1, linestyle=":", label="constant prediction"
    )


def _show_losses(axes: Axes, story: Story) -> None:
    """Show losses as they fall: a cross-entropy through powers of ten, a squared error seldom."""
    if story.task == "classification":
        show_losses([axes])


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), ncols=4, loc="outside lower center")


def _confusion_caption(story: Story) -> str:
    return (
        f"The {story.score.rows:,} {story.score.part} rows by true and predicted class: what lies "
        "off the diagonal was mistaken."
    )


def _residuals_caption(story: Story) -> str:
    return (
        f"The {story.score.rows:,} {story.score.part} rows: true against predicted {story.target}, "
        "and what the prediction missed. A pattern below would be something the model did not "
        "learn."
    )
