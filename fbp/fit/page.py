"""One page for a fit: the verdict first, then what was decided and why, and the pictures."""

from collections.abc import Mapping
from html import escape
from typing import Any

from fbp.fit.figures import draw
from fbp.fit.story import Story
from fbp.report.markup import definitions, fill, html_table, picture, png


def html(story: Story, environment: Mapping[str, Any], usage: str) -> str:
    """The page as HTML that needs no other file and no network."""
    chosen = [tried.rate for tried in story.rates].index(story.rate)
    return fill(
        "fbp.fit",
        "page.html",
        title=escape(f"Predicting {story.target}"),
        verdict=escape(story.verdict),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in story.notes),
        decisions=definitions(decisions(story)),
        figures="\n".join(picture(png(figure), text) for figure, text in draw(story).values()),
        constant=f"{story.constant_loss:.3g}",
        table=html_table(("learning rate", "mean loss", "trainings"), _rates(story), best=chosen),
        usage=escape(usage),
        environment=definitions(_environment(story, environment)),
    )


def decisions(story: Story) -> dict[str, str]:
    """What was decided, and why."""
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
        "starts": f"{story.tries}" + (" (others failed)" if story.tries > 1 else ""),
        "seed": f"{story.seed}",
    }


def _task(story: Story) -> str:
    if story.task == "regression":
        return "regression, since the target is of numbers"
    names = ", ".join(story.classes[:10]) + (", …" if len(story.classes) > 10 else "")
    return f"classification into {len(story.classes)} classes: {names}"


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
