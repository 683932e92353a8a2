"""One page for a fit: the verdict first, then what was decided and why, and the pictures."""

import base64
import io
import warnings
from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fbp.fit.figures import story_figures
from fbp.fit.story import Story
from fbp.report.markup import definitions, fill, html_table

MOST_CLASSES = 50  # rows of the table of classes


def story_page(story: Story, environment: Mapping[str, Any], usage: str) -> str:
    """Return the page as HTML that needs no other file and no network."""
    chosen = [tried.rate for tried in story.rates].index(story.rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has it
        figures = "\n".join(
            _picture(figure, text) for figure, text in story_figures(story).values()
        )
    return fill(
        "fbp.fit",
        "page.html",
        title=escape(f"Predicting {story.target}"),
        verdict=escape(story.verdict),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in story.notes),
        decisions=definitions(decisions(story)),
        classes=_classes(story),
        figures=figures,
        constant=f"{story.constant_loss:.3g}",
        table=html_table(("learning rate", "mean loss", "trainings"), _rates(story), best=chosen),
        usage=escape(usage),
        environment=definitions(_environment(story, environment)),
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


def _picture(figure: Figure, caption: str) -> str:
    """Return a figure as SVG whose text stays text: the browser draws every script and emoji."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", dpi=160)
    source = base64.b64encode(stream.getvalue()).decode("ascii")
    tag = f'<img alt="{escape(caption)}" src="data:image/svg+xml;base64,{source}">'
    return f"<figure>\n{tag}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def _classes(story: Story) -> str:
    """Precision, recall and area under the curve of each class."""
    score = story.score
    if not score.classes:
        return ""
    titles = ("class", "rows", "precision", "recall", "area under the curve")
    rows = [
        [
            (story.classes[number], ""),
            (f"{one.rows:,}", ""),
            *((_share(value), "") for value in (one.precision, one.recall, one.auc)),
        ]
        for number, one in enumerate(score.classes)
    ]
    means = f"Balanced accuracy {_share(score.balanced)}, mean area {_share(score.auc)}."
    shown = html_table(titles, rows[:MOST_CLASSES])
    more = "" if len(rows) <= MOST_CLASSES else f" The first {MOST_CLASSES} of {len(rows)} classes."
    return (
        f"<h2>Every class</h2>\n<p>{escape(means + more)}</p>\n"
        f'<div class="scroll names" tabindex="0">\n{shown}\n</div>'
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
