"""Files sorted into one folder for each class."""

from pathlib import Path

from fbp.errors import InputError


def files_by_class(directory: Path, suffix: str) -> tuple[list[Path], list[str]]:
    """The files of that suffix in each subdirectory, sorted, and the subdirectory's name for each.

    Hidden files and folders are passed over. Raises InputError for a directory that is missing,
    has no such file, or has some beside its subdirectories, which would be of no class.

    >>> import tempfile
    >>> top = Path(tempfile.mkdtemp())
    >>> for kind in ("cat", "dog"):
    ...     (top / kind).mkdir()
    ...     (top / kind / "1.png").touch()
    >>> files_by_class(top, ".png")[1]
    ['cat', 'dog']
    """
    stray = files_in(directory, suffix)
    if stray:
        raise InputError(
            f"{directory}: {stray[0].name} lies beside the folders: put each {suffix} file into a "
            "folder named after its class"
        )
    folders = sorted(p for p in directory.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [(path, folder.name) for folder in folders for path in files_in(folder, suffix)]
    if not found:
        raise InputError(
            f"{directory}: no {suffix} file in its folders: give a directory with one folder for "
            "each class"
        )
    return [path for path, _ in found], [label for _, label in found]


def files_in(directory: Path, suffix: str) -> list[Path]:
    """The directory's own files of that suffix, sorted; InputError if it is missing."""
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory: check the path")
    visible = (path for path in directory.iterdir() if not path.name.startswith("."))
    return sorted(p for p in visible if p.is_file() and p.suffix.lower() == suffix)
