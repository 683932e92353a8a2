"""The configs that come with fbp: in its wheel, or beside the package in a clone."""

from pathlib import Path

from fbp.errors import InputError, suggestion


def shipped_configs() -> dict[str, Path]:
    """Return the paths of the configs by their names.

    >>> "digits_mlp" in shipped_configs()
    True
    """
    package = Path(__file__).parent
    folders = package / "configs", package.parent / "configs"
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def config_path(path: Path) -> Path:
    """Return a config's path; a name that is no file, but a shipped config's, stands for that.

    Raises InputError for a name that is neither.

    >>> config_path(Path("digits_mlp")).name
    'digits_mlp.toml'
    """
    if path.suffix or len(path.parts) != 1:
        return path
    try:
        present = path.exists()
    except (OSError, ValueError):
        return path
    shipped = shipped_configs()
    if present or path.name in shipped:
        return path if present else shipped[path.name]
    raise InputError(
        f"{path}: no such file, and no config that comes with fbp: {suggestion(path.name, shipped)}"
    )
