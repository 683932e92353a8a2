"""One page for a run: the verdict first, then the table, the pictures, config and environment."""

import base64
import io
import json
import shlex
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from matplotlib.figure import Figure

from fbp.errors import InputError
from fbp.report import figures
from fbp.report.run import Run, read
from fbp.report.trials import setting_of
from fbp.report.words import caption, columns, table_note, verdict, warnings

DOTS_PER_INCH = 160


def write(run: Path) -> Path:
    """Write `report.html` and `figures/*.png` into a run's directory; the page's path."""
    content = read(run)
    pictures = {name: png(f) for name, f in figures.draw(content.records, content.summary).items()}
    try:
        (run / "figures").mkdir(exist_ok=True)
        for name, picture in pictures.items():
            (run / "figures" / f"{name}.png").write_bytes(picture)
        page = run / "report.html"
        page.write_text(html(content, pictures), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{run}: the report cannot be written ({error.strerror}): free space or give a copy "
            "of the run in a directory that can be written to"
        ) from error
    return page


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()


def html(run: Run, pictures: Mapping[str, bytes]) -> str:
    """The page as HTML that needs no other file."""
    template = Template(files("fbp.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=escape(str(run.summary["name"])),
        verdict=escape(verdict(run.summary)),
        warnings="\n".join(f'<p class="warning">{escape(text)}</p>' for text in warnings(run)),
        table_note=escape(table_note(run.summary)),
        table=_table(run.summary),
        figures="\n".join(
            _figure(caption(name, run.summary), picture) for name, picture in pictures.items()
        ),
        config=escape(run.config),
        environment=_definitions(_environment(run)),
    )


def _figure(text: str, picture: bytes) -> str:
    source = base64.b64encode(picture).decode("ascii")
    image = f'<img alt="{escape(text)}" src="data:image/png;base64,{source}">'
    return f"<figure>\n{image}\n<figcaption>{escape(text)}</figcaption>\n</figure>"


def _table(summary: Mapping[str, Any]) -> str:
    table, best = columns(summary), summary["best"]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in table)
    rows = []
    for entry in summary["rates"]:
        chosen = best is not None and setting_of(entry) == setting_of(best)
        (rate, _), *rest = (cell(entry) for cell in table.values())
        cells = [(rate, "best" if chosen else ""), *rest]
        row = "".join(
            f"<td>{escape(v)} <small>{escape(detail)}</small></td>" for v, detail in cells
        )
        rows.append(f'<tr class="best">{row}</tr>' if chosen else f"<tr>{row}</tr>")
    body = "\n".join(rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _environment(run: Run) -> dict[str, str]:
    facts = _flat(run.environment)
    if "seconds" in run.summary:
        facts["duration"] = f"{run.summary['seconds']:.3g} s"
    if "trial_steps_per_second" in run.summary:
        facts["speed"] = f"{run.summary['trial_steps_per_second']:,.0f} trial-steps per second"
    return facts


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = _text(value)
    return flat


def _text(fact: Any) -> str:
    if isinstance(fact, list):
        return shlex.join(map(str, fact))
    return fact if isinstance(fact, str) else json.dumps(fact)


def _definitions(facts: Mapping[str, str]) -> str:
    items = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return "<dl>\n" + "\n".join(items) + "\n</dl>"
