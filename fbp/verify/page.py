"""A report as one page that needs no other file: the findings, every leaf, and the pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.report import needs_report
from fbp.verify.ladders import Ladder
from fbp.verify.report import LeafVerdict, Report, entry, nine_digits

UNITS = (
    "The largest error of each leaf, and the error that is allowed, both in units of the spacing "
    "of floating-point numbers at the leaf's largest entry (ULPs). What is allowed is measured: "
    "what rounding does to a right gradient. A reference by JAX obeys the custom rules of the "
    "function, which are therefore checked by themselves."
)
CAPTION = (
    "Along a random direction: how far difference quotients of the function's values lie from the "
    "gradient, for each step (blue) and extrapolated to the step 0 (red). Beside a right gradient "
    "the blue line falls with the step until rounding takes over and it rises, a V, and the red "
    "line lies within the error bar (grey). Beside a wrong one both stay on a floor above it."
)


def write_page(path: str | Path, report: Report, ladders: Sequence[Ladder] = ()) -> None:
    """Write a report as an HTML page, with a picture for each ladder.

    Args:
      path: the file to write.
      report: what `check` or `trace_nonfinite` found.
      ladders: what `ladders` made of the same function and arguments.

    Returns:
      Nothing.

    Raises:
      InputError: the file cannot be written, or Jinja2 or matplotlib is not installed.

    >>> import jax.numpy as jnp, tempfile
    >>> from fbp.verify import check, ladders
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = Path(directory) / "check.html"
    ...     write_page(path, check(jnp.sin, 0.5), ladders(jnp.sin, 0.5))
    ...     print("the gradient of sin" in path.read_text(encoding="utf-8"))
    True
    """
    content = html(report, ladders)
    try:
        Path(path).write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: the page cannot be written ({error.strerror}).") from error


def html(report: Report, ladders: Sequence[Ladder] = ()) -> str:
    """Return the report as a page; raises InputError where what draws it is not installed."""
    with needs_report("the page"):
        from fbp.report.markup import render
    return render(
        "verify/page.html",
        title=f"{report.subject}: {report.verdict}",
        report=report,
        caption=CAPTION,
        pictures=_pictures(ladders) if ladders else (),
        **_leaves(report.leaves),
    )


def _pictures(ladders: Sequence[Ladder]) -> list[Any]:
    with needs_report("the page"):
        from fbp.report.markup import picture, png
        from fbp.verify.figures import draw
    return [
        picture(png(draw(ladder)), f"{ladder.leaf}: the error of finite differences by the step")
        for ladder in ladders
    ]


def fragment(report: Report) -> str:
    """Return the report as a part of a page, as a notebook shows it.

    >>> "<h2>the gradient of f: right</h2>" in fragment(Report("the gradient of f"))
    True
    """
    with needs_report("the report"):
        from fbp.report.markup import render
    return render("verify/fragment.html", report=report, **_leaves(report.leaves))


def _leaves(leaves: Sequence[LeafVerdict]) -> dict[str, Any]:
    """Return name, color and cells of every leaf, and what is said of them."""
    return {
        "leaves": [(leaf.leaf, "right" if leaf.ok else "wrong", _cells(leaf)) for leaf in leaves],
        "units": UNITS,
        "references": list(dict.fromkeys(leaf.reference for leaf in leaves)),
    }


def _cells(leaf: LeafVerdict) -> tuple[str, ...]:
    return (
        ("right" if leaf.resolved else "unresolved") if leaf.ok else "WRONG",
        f"{leaf.max_ulps:.3g}",
        f"{leaf.bar_ulps:.3g}",
        entry(leaf.index),
        nine_digits(leaf.expected),
        nine_digits(leaf.got),
    )
