"""The page kit: every page of fbp is filled by Jinja2, and needs no other file and no network.

Templates are known by their path in the package. What is filled in is escaped, unless it is
`Markup`.
"""

import base64
import io
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup as Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 160
Cell = tuple[str, str]  # a value, and what is added in small


@dataclass(frozen=True)
class Picture:
    """An image within a page.

    Attributes:
      source: its bytes as a data URI.
      caption: what is to be seen, in a sentence.
    """

    source: str
    caption: str


def render(template: str, **fields: Any) -> str:
    """Fill a template with fields.

    >>> page = render("verify/fragment.html", report=None, leaves=(), units="", references=())
    Traceback (most recent call last):
    ...
    jinja2.exceptions.UndefinedError: 'None' has no attribute 'subject'
    """
    return _ENVIRONMENT.get_template(template).render(fields)


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as the address of an image or a sound within the page.

    >>> data_uri(b"abc", "image/png")
    'data:image/png;base64,YWJj'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def png(figure: "Figure") -> bytes:
    """Render a figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()


def picture(image: bytes, caption: str) -> Picture:
    """Return a PNG with its caption."""
    return Picture(data_uri(image, "image/png"), caption)


def _source(name: str) -> str:
    return files("fbp").joinpath(name).read_text(encoding="utf-8")


_ENVIRONMENT = Environment(
    loader=FunctionLoader(_source),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals["source"] = lambda name: Markup(_source(name))
