"""A report as one page that needs no other file: the findings, every leaf, and the pictures."""

import base64
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from fbp.errors import InputError
from fbp.report import needs_matplotlib
from fbp.verify.ladders import Ladder
from fbp.verify.report import Finding, LeafVerdict, Report, entry, nine_digits

COLUMNS = ("leaf", "verdict", "error", "allowed", "at", "expected", "got")
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
      InputError: the file cannot be written, or ladders are to be drawn and matplotlib is not
        installed.

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
    """Return the page as text; raises InputError where there is a picture to draw and no
    matplotlib."""
    template = Template(files("fbp.verify").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        subject=escape(report.subject),
        verdict=escape(report.verdict),
        body=_body(report),
        color="right" if report.ok else "wrong",
        pictures=_pictures(ladders),
    )


def fragment(report: Report) -> str:
    """Return the report as a part of a page, as a notebook shows it.

    >>> "<h2>the gradient of f: right</h2>" in fragment(Report("the gradient of f"))
    True
    """
    return f"<h2>{escape(report.subject)}: {escape(report.verdict)}</h2>\n{_body(report)}"


def _body(report: Report) -> str:
    return "\n".join(
        [
            *map(_finding, report.findings),
            _leaves(report.leaves),
            _paragraph("Also compared", report.checked),
            _list("Custom rules", tuple(map(str, report.rules))),
            _list("Not checked", report.unchecked),
            _paragraph("Again", (report.command,) if report.command else ()),
        ]
    )


def _finding(finding: Finding) -> str:
    details = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in finding.details())
    return (
        f'<section class="{"fails" if finding.kind.fails else "said"}">\n'
        f"<h3>{escape(finding.kind)}</h3>\n<p>{escape(finding.message)}</p>\n"
        f"<dl>{details}</dl>\n</section>"
    )


def _leaves(leaves: Sequence[LeafVerdict]) -> str:
    if not leaves:
        return ""
    head = "".join(f'<th scope="col">{title}</th>' for title in COLUMNS)
    body = "\n".join(map(_row, leaves))
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    references = tuple(dict.fromkeys(leaf.reference for leaf in leaves))
    return (
        f"<h2>Every leaf</h2>\n<p>{escape(UNITS)}</p>\n"
        f'<div class="scroll" tabindex="0">\n{table}\n</div>\n'
        + _paragraph("Compared with", references)
    )


def _paragraph(title: str, items: Sequence[str]) -> str:
    return f"<p>{title}: {escape(', '.join(items))}.</p>" if items else ""


def _list(title: str, items: Sequence[str]) -> str:
    entries = "".join(f"<li>{escape(x)}</li>" for x in items)
    return f"<h2>{title}</h2>\n<ul>{entries}</ul>" if items else ""


def _row(leaf: LeafVerdict) -> str:
    cells = (
        leaf.leaf,
        ("right" if leaf.resolved else "unresolved") if leaf.ok else "WRONG",
        f"{leaf.max_ulps:.3g}",
        f"{leaf.bar_ulps:.3g}",
        entry(leaf.index),
        nine_digits(leaf.expected),
        nine_digits(leaf.got),
    )
    row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="{"right" if leaf.ok else "wrong"}">{row}</tr>'


def _pictures(ladders: Sequence[Ladder]) -> str:
    if not ladders:
        return ""
    with needs_matplotlib("the page"):
        from fbp.report.markup import png
        from fbp.verify.figures import draw
    figures = (_figure(ladder.leaf, png(draw(ladder))) for ladder in ladders)
    return "\n".join(["<h2>Error against the step</h2>", f"<p>{escape(CAPTION)}</p>", *figures])


def _figure(leaf: str, picture: bytes) -> str:
    source = base64.b64encode(picture).decode("ascii")
    text = f"{leaf}: the error of finite differences against the step"
    image = f'<img alt="{escape(text)}" src="data:image/png;base64,{source}">'
    return f"<figure>\n<figcaption>{escape(leaf)}</figcaption>\n{image}\n</figure>"
