"""`fbp configs`: the settings that come with fbp."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fbp.commands.flags import Json, Overwrite
from fbp.commands.output import print_json
from fbp.errors import InputError, require_one_of, suggestion

ACTIONS = ("list", "show", "copy")


@dataclass(frozen=True)
class ConfigsCommand:
    """List, show or copy the configs that come with fbp; `fbp sweep NAME` runs one."""

    action: Annotated[Positional[str], arg(metavar="{list,show,copy}")] = "list"
    """What to do."""
    name: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """Which config, such as digits_mlp; all of them if it is not given."""
    out: Annotated[Path, arg(metavar="DIR")] = Path()
    """Directory of the copies; the working directory if not given."""
    overwrite: Overwrite = False
    json: Json = False

    def __call__(self) -> None:
        """Do it."""
        from fbp.shipped import shipped_configs

        require_one_of("fbp configs", self.action, ACTIONS)
        paths = shipped_configs()
        if self.name is not None:
            paths = {self.name: _named(self.name, paths)}
        texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
        do = {"list": _list, "show": _show, "copy": self._copy}[self.action]
        do(texts, self.json)

    def _copy(self, texts: Mapping[str, str], json: bool) -> None:
        paths = {name: self.out / f"{name}.toml" for name in texts}
        for path in paths.values():
            if path.exists() and not self.overwrite:
                raise InputError(f"{path}: is there already: give another --out, or --overwrite")
        for name, path in paths.items():
            _write(path, texts[name])
            if not json:
                print(path)
        if json:
            print_json(paths)


def _list(texts: Mapping[str, str], json: bool) -> None:
    heads = {name: _headline(text) for name, text in texts.items()}
    if json:
        print_json(heads)
    for name, head in [] if json else heads.items():
        print(f"{name:20} {head}")


def _show(texts: Mapping[str, str], json: bool) -> None:
    if json:
        print_json({name: tomllib.loads(text) for name, text in texts.items()})
    for text in () if json else texts.values():
        print(text)


def _named(name: str, paths: Mapping[str, Path]) -> Path:
    if name not in paths:
        raise InputError(f"no config is called {name}: {suggestion(name, paths)}")
    return paths[name]


def _headline(text: str) -> str:
    """Return what a config compares: the second line of its head."""
    comments = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    return comments[1] if len(comments) > 1 else ""


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error}): give another --out") from error
