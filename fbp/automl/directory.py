"""What `fbp fit` leaves on the disk.

- `model.npz`: the model, for `fbp.load_fitted` and `fbp predict`;
- `fit.json`: what was decided and measured, and the environment;
- `report.html`: the page.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbp.automl.fitted import Fitted
from fbp.automl.store import story_as_data
from fbp.errors import InputError
from fbp.records import environment, write_atomic

MODEL, STORY, PAGE = "model.npz", "fit.json", "report.html"
FILES = (MODEL, STORY, PAGE)


def check_free(directory: Path, overwrite: bool) -> None:
    """Raise InputError unless a fit may be written there; nothing is changed.

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
    """Write the model, its story and then its page; return the page's path.

    The model is on the disk before the page is drawn. `command` shows how to predict with it.

    Raises InputError where it cannot be written.
    """
    facts = environment()
    story = story_as_data(fitted.story) | {"environment": facts}
    data = {"verdict": fitted.story.verdict} | story
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fitted.save(directory / MODEL)
        write_atomic(directory / STORY, (text + "\n").encode("utf-8", "surrogatepass"))
        page = _page(fitted, facts, f"{command}\n\n{_python(directory)}", directory)
        write_atomic(directory / PAGE, page.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written ({error.strerror}): free space, or give another --out"
        ) from error
    return directory / PAGE


def _page(fitted: Fitted, facts: Mapping[str, Any], usage: str, directory: Path) -> str:
    from fbp.automl.page import story_page
    from fbp.automl.shown_examples import examples_shown

    try:
        examples = examples_shown(fitted.model, fitted.scored)
        return story_page(fitted.story, facts, usage, examples)
    except Exception as error:  # whatever it is, the model is there, and the user should know
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{directory / MODEL}: the model is saved, but its page cannot be drawn ({reason})"
        ) from error


def _python(directory: Path) -> str:
    return f'fitted = fbp.load_fitted("{directory}")\nfitted.predict(x)'
