"""One page for a fit: the verdict first, then what was decided and why, and the pictures."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fbp.automl.figures import story_figures
from fbp.automl.shown_examples import Shown
from fbp.automl.story import Story
from fbp.report.markup import Cell, Picture, data_uri, render

MOST_CLASSES = 50  # rows of the table of classes


def story_page(
    story: Story, environment: Mapping[str, Any], usage: str, examples: Shown | None = None
) -> str:
    """Return the page as HTML that needs no other file and no network."""
    chosen = [tried.rate for tried in story.rates].index(story.rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has it
        pictures = [_picture(figure, text) for figure, text in story_figures(story).values()]
    classes = _classes(story)
    sections = {
        "done": "What was done",
        **({"classes": "Every class"} if classes else {}),
        **({"examples": f"Some of your {examples.kind}"} if examples else {}),
        "pictures": "Pictures",
        "rates": "Every rate",
        "use": "Use it",
    }
    return render(
        "automl/page.html",
        title=f"Predicting {story.target}",
        verdict=story.verdict,
        notes=story.notes,
        sections=sections,
        decisions=decisions(story),
        classes=classes[:MOST_CLASSES],
        class_note=_class_note(story),
        class_titles=("class", "rows", "precision", "recall", "area under the curve"),
        examples=examples,
        pictures=pictures,
        constant=f"{story.constant_loss:.3g}",
        rates=_rates(story),
        best=chosen,
        usage=usage,
        environment=_environment(story, environment),
    )


def decisions(story: Story) -> dict[str, str]:
    """Return what was decided, and why."""
    plan, score = story.plan, story.score
    suggestion = story.range_test.suggestion
    return {
        "input": story.inputs,
        "task": _task(story),
        "rows": f"{story.rows:,} to learn from"
        + (f", {score.rows:,} kept for the test" if score.part == "test" else ""),
        "network": f"{plan.architecture}, {story.parameters:,} parameters; chosen by the size of "
        "the data",
        "model": f"the mean of {plan.members} such networks, each validated on another "
        f"{_ordinal(plan.members)} of the rows",
        "training": f"AdamW, batches of {plan.batch_size}, at most {plan.steps:,} steps, cosine "
        "decay, the parameters of the lowest validation loss kept",
        "learning rate": f"{story.rate:.2g}, the best of {len(story.rates)} on validation around "
        f"{suggestion:.2g}, which the range test suggests",
        "starts": f"{story.starts}" + (" (others failed)" if story.starts > 1 else ""),
        "seed": f"{story.seed}",
    }


def _task(story: Story) -> str:
    return f"{story.task}: {story.notes[0]}"


def _picture(figure: Figure, caption: str) -> Picture:
    """Return a figure as SVG whose text stays text: the browser draws every script and emoji."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", dpi=160)
    return Picture(data_uri(stream.getvalue(), "image/svg+xml"), caption)


def _classes(story: Story) -> list[list[Cell]]:
    """Return precision, recall and area under the curve of each class."""
    return [
        [
            (story.classes[number], ""),
            (f"{one.rows:,}", ""),
            *((_share(value), "") for value in (one.precision, one.recall, one.auc)),
        ]
        for number, one in enumerate(story.score.classes)
    ]


def _class_note(story: Story) -> str:
    score = story.score
    means = (
        "Precision: how many of the rows said to be of a class are; recall: how many of its rows "
        "are found; area under the curve: the probability that a row of the class gets more of it "
        f"than another row. Balanced accuracy, the mean recall, {_share(score.balanced)}, mean "
        f"area {_share(score.auc)}."
    )
    count = len(score.classes)
    return means + (
        f" The first {MOST_CLASSES} of {count} classes." if count > MOST_CLASSES else ""
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ordinal(number: int) -> str:
    return {2: "half", 3: "third", 4: "quarter", 5: "fifth"}.get(number, f"{number}th")


def _rates(story: Story) -> list[list[tuple[str, str]]]:
    rows = []
    for tried in story.rates:
        lost = tried.losses.count(None)
        mean = "diverged" if lost else f"{tried.mean_loss:.4g}"
        note = "chosen" if tried.rate == story.rate else ""
        rows.append([(f"{tried.rate:.3g}", note), (mean, ""), (f"{len(tried.losses)}", "")])
    return rows


def _environment(story: Story, environment: Mapping[str, Any]) -> dict[str, str]:
    versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items())
    return {
        "time": environment["time"],
        "versions": versions,
        "device": f"{environment['device']['count']} x {environment['device']['kind']}",
        "duration": f"{story.seconds:.3g} s",
    }
