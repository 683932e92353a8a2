"""Pieces of a page: HTML that needs no other file and no network."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from matplotlib.figure import Figure

DOTS_PER_INCH = 160
Cell = tuple[str, str]  # a value, and what is added in small


def fill(package: str, template: str, **fields: str) -> str:
    """Fill a package's template with fields, which are HTML, and the style that all pages share."""
    style = _file("fbp.report", "style.css")
    return Template(_file(package, template)).substitute(fields, style=style)


def png(figure: Figure) -> bytes:
    """Render a figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()


def picture(image: bytes, caption: str) -> str:
    """Embed a PNG in the page, its caption below."""
    source = base64.b64encode(image).decode("ascii")
    tag = f'<img alt="{escape(caption)}" src="data:image/png;base64,{source}">'
    return f"<figure>\n{tag}\n<figcaption>{escape(caption)}</figcaption>\n</figure>"


def html_table(
    titles: Sequence[str], rows: Sequence[Sequence[Cell]], best: int | None = None
) -> str:
    """Make a table of rows of cells under their titles; the best row is marked."""
    head = "".join(
        f'<th scope="col">{escape(title)}</th>' if title else "<td></td>" for title in titles
    )
    body = "\n".join(_row(row, number == best) for number, row in enumerate(rows))
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def warning_boxes(texts: Sequence[str]) -> str:
    """Put each text that the reader must know in a box."""
    return "\n".join(f'<p class="warning">{escape(text)}</p>' for text in texts)


def definitions(facts: Mapping[str, str]) -> str:
    """List names and what they stand for."""
    items = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return "<dl>\n" + "\n".join(items) + "\n</dl>"


def _row(cells: Sequence[Cell], best: bool) -> str:
    columns = "".join(
        f"<td>{escape(v)} <small>{escape(detail)}</small></td>" for v, detail in cells
    )
    return f'<tr class="best">{columns}</tr>' if best else f"<tr>{columns}</tr>"


def _file(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
