"""Write the page: one HTML file with its drawing, its numbers and its script."""

import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from fbp.report import needs_report
from fbp.show.drawing import network, positions, radius
from fbp.show.payload import at, check_size, payload, shown
from fbp.show.record import LessonRecording
from fbp.show.scenes import Scene, scenes

NUMBER = re.compile(r"\{(?:(\w+):)?([^{}]+)\}")
EDGE_COLUMNS = {
    "weight w": "w",
    "carries x·w": "carried",
    "brings back d_a·w": "message",
    "dL/dw": "d_w",
    "new weight": "w_next",
}
NEURON_COLUMNS = {
    "bias b": "b",
    "sum a": "a",
    "output h": "h",
    "slope": "slope",
    "d_h": "d_h",
    "error signal d_a": "d_a",
    "dL/db": "d_b",
    "new bias": "b_next",
}


def write_recording(path: Path, recording: LessonRecording) -> None:
    """Write a recording as a page that needs no other file and no network.

    Args:
      path: of the file, whose directory exists.
      recording: of a lesson.

    Returns:
      Nothing: the file is written, over one that is there.

    Raises:
      InputError: the page would be too large, or Jinja2 is not installed.

    >>> from tempfile import TemporaryDirectory
    >>> from fbp.show import record, xor
    >>> with TemporaryDirectory() as directory:
    ...     page = Path(directory) / "xor.html"
    ...     write_recording(page, record(xor(), seed=1))
    ...     "<svg" in page.read_text(encoding="utf-8")
    True
    """
    text = recording_html(recording)
    check_size(text, recording)
    path.write_text(text, encoding="utf-8")


def recording_html(recording: LessonRecording) -> str:
    """Return the page as HTML."""
    lesson, data = recording.lesson, payload(recording)
    data["positions"], data["radius"] = positions(lesson.widths), radius(lesson.widths)
    told = scenes(lesson)
    data["scenes"] = [{"title": s.title, "seconds": s.seconds} for s in told]
    with needs_report("the page"):
        from fbp.report.markup import Markup, render
    options = "".join(
        f'<option value="{i}">{i + 1}: {escape(_example(lesson, step.example))}</option>'
        for i, step in enumerate(recording.slow)
    )
    parts = {
        "net": network(data),
        "scenes": "\n".join(_scene(number, scene, data) for number, scene in enumerate(told)),
        "examples": options,
        "notes": "".join(f"<li>{escape(note)}</li>" for note in lesson.notes),
        "edges": _edges(data),
        "neurons": _neurons(data),
        "tape": _tape(data),
        "data": _script_safe(json.dumps(data, allow_nan=False, separators=(",", ":"))),
    }
    return render(
        "show/page.html",
        title=f"A network learns {lesson.name}",
        made=f"{data['made']}, seed {recording.seed}",
        **{name: Markup(part) for name, part in parts.items()},
    )


def numbers_in(text: str, data: dict[str, Any], state: dict[str, str]) -> str:
    """Fill the sentences of a scene: each path becomes an element that names it."""

    def filled(match: re.Match) -> str:
        kind, path = match.group(1) or "number", match.group(2)
        return (
            f'<span data-path="{escape(path)}" data-kind="{kind}">'
            f"{escape(_written(kind, path, data, state))}</span>"
        )

    return NUMBER.sub(filled, text)


def _written(kind: str, path: str, data: dict[str, Any], state: dict[str, str]) -> str:
    if path == "chosen":
        return _edge_name(data, [int(state[k]) for k in ("@l", "@i", "@j")])
    path = ".".join(state.get(part, part) for part in path.split("."))
    value = at(data, path)
    match kind:
        case "edge":
            return _edge_name(data, value)
        case "integer":
            return f"{value:,}"
        case "percent":
            return f"{round(100 * value)} %"
        case "text":
            return str(value)
        case _:
            return "" if value is None else shown(value)


def _edge_name(data: dict[str, Any], edge: Sequence[int]) -> str:
    layer, i, j = edge
    return f"{data['names'][layer][i]} → {data['names'][layer + 1][j]}"


def _state(data: dict[str, Any], edge: Sequence[int] = (0, 0, 0)) -> dict[str, str]:
    """Return what is shown without a script: the first step, the first edge, the last frame."""
    layer, i, j = map(str, edge)
    last = str(len(data["film"]["steps"]) - 1)
    return {"@s": "0", "@l": layer, "@i": i, "@j": j, "@f": last}


def _scene(number: int, scene: Scene, data: dict[str, Any]) -> str:
    text = numbers_in(scene.text, data, _state(data))
    step = f"<small>In the article: {escape(scene.step)}</small>" if scene.step else ""
    return (
        f'<li class="scene" id="scene{number}"><h2>{escape(scene.title)}</h2>{step}<p>{text}</p>'
        "</li>"
    )


def _example(lesson: Any, number: int) -> str:
    pairs = zip(lesson.inputs, lesson.x[number], strict=True)
    inputs = ", ".join(f"{name} = {shown(x)}" for name, x in list(pairs)[:4])
    more = ", …" if len(lesson.inputs) > 4 else ""
    return inputs + more


def _edges(data: dict[str, Any]) -> str:
    rows = []
    for layer, part in enumerate(data["steps"][0]["layers"]):
        for i, row in enumerate(part["w"]):
            for j in range(len(row)):
                name = _edge_name(data, (layer, i, j))
                button = (
                    f'<button type="button" data-edge="{layer}-{i}-{j}">{escape(name)}</button>'
                )
                paths = [f"steps.@s.layers.{layer}.{c}.{i}.{j}" for c in EDGE_COLUMNS.values()]
                rows.append(_row(button, paths, data))
    return _table("edge", list(EDGE_COLUMNS), rows)


def _neurons(data: dict[str, Any]) -> str:
    rows = []
    for layer, part in enumerate(data["steps"][0]["layers"]):
        for j in range(len(part["b"])):
            paths = [
                f"steps.@s.layers.{layer}.{k}.{j}" if part[k] is not None else ""
                for k in NEURON_COLUMNS.values()
            ]
            rows.append(_row(escape(data["names"][layer + 1][j]), paths, data))
    return _table("neuron", list(NEURON_COLUMNS), rows)


def _row(head: str, paths: Sequence[str], data: dict[str, Any]) -> str:
    cells = "".join(
        f"<td>{numbers_in('{' + path + '}', data, _state(data)) if path else '–'}</td>"
        for path in paths
    )
    return f'<tr><th scope="row">{head}</th>{cells}</tr>'


def _table(first: str, titles: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in (first, *titles))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _tape(data: dict[str, Any]) -> str:
    """List the tape of the first step; the script fills in that of the chosen one."""
    rows = []
    for number, entry in enumerate(data["steps"][0]["tape"]):
        button = (
            f'<button type="button" data-entry="{number}">{escape(entry["primitive"])}</button>'
        )
        numbers = "".join(
            f'<td data-entry-field="{field}">{_summary(entry[field])}</td>'
            for field in ("out", "out_ct")
        )
        rows.append(f'<tr><th scope="row">{button}</th>{numbers}<td>{escape(entry["source"])}</td>')
    return _table(
        "primitive", ["value, forward", "cotangent, backward", "line"], [r + "</tr>" for r in rows]
    )


def _summary(value: Any) -> str:
    """At most four numbers of an array."""
    flat = _flat(value)
    return ", ".join(map(shown, flat[:4])) + (", …" if len(flat) > 4 else "")


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    return [x for part in value for x in _flat(part)] if isinstance(value, list) else [value]


def _script_safe(text: str) -> str:
    """Escape what would end the script: a name of the data may hold `</script>`."""
    return text.replace("<", "\\u003c")
