"""What `fbp fit` leaves on the disk.

- `model.npz`: the model, for `fbp.load_fitted` and `fbp predict`;
- `fit.json`: what was decided and measured, and the environment;
- `report.html`: the page.
"""

import json
from pathlib import Path

from fbp.errors import InputError
from fbp.fit.fitted import Fitted
from fbp.fit.store import save, story_as_data
from fbp.records import environment

MODEL, STORY, PAGE = "model.npz", "fit.json", "report.html"
FILES = (MODEL, STORY, PAGE)


def check_free(directory: Path, overwrite: bool) -> None:
    """Raises InputError unless a fit may be written there; nothing is changed.

    >>> check_free(Path("fbp"), overwrite=False)
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: fbp: holds files that are not a fit's: give another --out
    """
    if not directory.exists():
        return
    if not directory.is_dir():
        raise InputError(f"{directory}: is a file: give a directory as --out")
    present = {path.name for path in directory.iterdir()}
    if present and not present <= set(FILES):
        raise InputError(f"{directory}: holds files that are not a fit's: give another --out")
    if present and not overwrite:
        raise InputError(f"{directory}: holds a fit already: give another --out, or --overwrite")


def write(directory: Path, fitted: Fitted, command: str) -> Path:
    """Write the model, its story and its page; the page's path.

    `command` shows how to predict with it. Raises InputError where it cannot be written.
    """
    from fbp.fit.page import html

    facts = environment()
    page = html(fitted.story, facts, f"{command}\n\n{_python(directory)}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        save(fitted, directory / MODEL)
        story = story_as_data(fitted.story) | {"environment": facts}
        text = json.dumps({"verdict": fitted.story.verdict} | story, indent=2)
        (directory / STORY).write_text(text + "\n", encoding="utf-8")
        (directory / PAGE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written ({error.strerror}): free space, or give another --out"
        ) from error
    return directory / PAGE


def _python(directory: Path) -> str:
    return f'fitted = fbp.load_fitted("{directory}")\nfitted.predict(x)'
