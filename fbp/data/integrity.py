"""Known sets are known by their SHA-256: a damaged one is never trained on."""

import gzip
import hashlib
import zlib
from pathlib import Path

from fbp.errors import InputError


def verified(content: bytes, sha256: str, origin: str, remedy: str) -> bytes:
    """Return the same bytes; raise InputError if their SHA-256 is another.

    >>> verified(b"abc", "ba7816bf", "abc.gz", "install it again")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: abc.gz is damaged (SHA-256 ba7816bf... of 3 bytes is not that of the \
published file): install it again
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise InputError(
            f"{origin} is damaged (SHA-256 {digest[:8]}... of {len(content)} bytes is not that of "
            f"the published file): {remedy}"
        )
    return content


def content(path: Path) -> bytes:
    """Return the bytes of a file, decompressed if its name ends in `.gz`.

    Raises InputError where it cannot be read.
    """
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    if path.suffix.lower() != ".gz":
        return stored
    try:
        return gzip.decompress(stored)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}): fetch the file again") from error
