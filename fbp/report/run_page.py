"""One page for a run: the verdict first, then the table, the pictures, config and environment."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fbp.errors import InputError
from fbp.report import run_figures
from fbp.report.best_settings import SETTINGS, settings_csv, shown_entries
from fbp.report.markup import Cell, picture, png, render
from fbp.report.recorded_layers import RecordedSetting, recorded_settings
from fbp.report.recording_figure import draw_recording
from fbp.report.run_directory import RecordedRun, read_run
from fbp.report.text import caption, summary_columns, table_note, verdict, warnings
from fbp.report.trials import setting_of


def write_run_page(run: Path) -> Path:
    """Write `report.html` and `figures/*.png` into a run's directory; return the page's path."""
    content = read_run(run)
    layers = recorded_settings(content)
    figures = run_figures.draw_run(content.records, content.summary)
    figures |= {setting.name: draw_recording(setting.recording) for setting in layers}
    pictures = {name: png(figure) for name, figure in figures.items()}
    try:
        (run / "figures").mkdir(exist_ok=True)
        for name, image in pictures.items():
            (run / "figures" / f"{name}.png").write_bytes(image)
        (run / SETTINGS).write_text(settings_csv(content.summary), encoding="utf-8")
        page = run / "report.html"
        page.write_text(run_html(content, pictures, layers), encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{run}: the report cannot be written ({error.strerror}): free space or give a copy "
            "of the run in a directory that can be written to"
        ) from error
    return page


def run_html(
    run: RecordedRun, pictures: Mapping[str, bytes], layers: Sequence[RecordedSetting] = ()
) -> str:
    """Return the page as HTML that needs no other file."""
    titles, rows, best = _table(run.summary)
    captions = {setting.name: setting.caption for setting in layers}
    of_run = [name for name in pictures if name not in captions]
    return render(
        "report/page.html",
        title=f"{run.summary['name']}: which learning rate?",
        verdict=verdict(run.summary),
        warnings=warnings(run),
        table_note=table_note(run.summary),
        titles=titles,
        rows=rows,
        best=best,
        pictures=[picture(pictures[name], caption(name, run.summary)) for name in of_run],
        layers=[(picture(pictures[s.name], s.caption), s.remarks) for s in layers],
        config=run.config,
        environment=_environment(run),
    )


def _table(summary: Mapping[str, Any]) -> tuple[list[str], list[list[Cell]], int | None]:
    """Return titles, rows, and which row is the best."""
    titles, best = summary_columns(summary), summary["best"]
    chosen = None if best is None else setting_of(best)
    shown = shown_entries(summary)
    number = next((i for i, e in enumerate(shown) if setting_of(e) == chosen), None)
    rows = [[cell(entry) for cell in titles.values()] for entry in shown]
    if number is not None:
        rows[number][0] = (rows[number][0][0], "best")
    return list(titles), rows, number


def _environment(run: RecordedRun) -> dict[str, str]:
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
