"""Files sorted into one folder for each class."""

from collections.abc import Sequence
from pathlib import Path

from fbp.errors import InputError


def files_by_class(directory: Path, suffixes: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the files of these suffixes in all subdirectories, and each one's subdirectory.

    Hidden files and folders are passed over. Raises InputError for a directory that is missing,
    has no such file, or has some beside its subdirectories, which would be of no class.

    >>> import tempfile
    >>> top = Path(tempfile.mkdtemp())
    >>> for kind in ("cat", "dog"):
    ...     (top / kind).mkdir()
    ...     (top / kind / "1.png").touch()
    >>> files_by_class(top, [".png"])[1]
    ['cat', 'dog']
    """
    stray = files_in(directory, suffixes)
    if stray:
        raise InputError(
            f"{directory}: {stray[0].name} lies beside the folders: put each file into a "
            "folder named after its class"
        )
    folders = sorted(p for p in directory.iterdir() if p.is_dir() and not p.name.startswith("."))
    labeled = [(path, folder.name) for folder in folders for path in files_in(folder, suffixes)]
    if not labeled:
        raise InputError(
            f"{directory}: no {suffixes[0]} file in its folders: give a directory with one folder "
            "for each class"
        )
    return [path for path, _ in labeled], [label for _, label in labeled]


def files_in(directory: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of these suffixes in a directory, sorted; InputError if it is missing."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory: check the path")
    visible = (path for path in directory.iterdir() if not path.name.startswith("."))
    return sorted(p for p in visible if p.is_file() and p.suffix.lower() in suffixes)
