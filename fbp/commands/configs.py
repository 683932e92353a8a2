"""`fbp configs`: the settings that come with fbp."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fbp.errors import InputError


@dataclass(frozen=True)
class ConfigsCommand:
    """List, show or copy the configs that come with fbp; `fbp sweep NAME` runs one."""

    action: Positional[Literal["list", "show", "copy"]] = "list"
    """What to do."""
    name: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """Which config, such as digits_mlp; all of them if it is not given."""
    out: Annotated[Path, arg(metavar="DIR")] = Path()
    """Where copies go; the working directory if not given."""

    def __call__(self) -> None:
        """Do it."""
        from fbp.shipped import shipped_configs

        paths = shipped_configs()
        if self.name is not None:
            paths = {self.name: _named(self.name, paths)}
        for name, path in paths.items():
            text = path.read_text(encoding="utf-8")
            if self.action == "list":
                print(f"{name:20} {_headline(text)}")
            elif self.action == "show":
                print(text)
            else:
                print(_copy(text, self.out, name))


def _named(name: str, paths: dict[str, Path]) -> Path:
    from fbp.errors import suggestion

    if name not in paths:
        raise InputError(f"no config is called {name}: {suggestion(name, paths)}")
    return paths[name]


def _headline(text: str) -> str:
    """Return what a config compares: the second line of its head."""
    comments = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    return comments[1] if len(comments) > 1 else ""


def _copy(text: str, directory: Path, name: str) -> Path:
    path = directory / f"{name}.toml"
    if path.exists():
        raise InputError(f"{path}: is there already: give another --out")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error}): give another --out") from error
    return path
