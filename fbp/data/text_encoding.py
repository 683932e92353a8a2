"""From the bytes of a file to its text."""

import codecs

from fbp.errors import InputError

FORMS = {b"PK\x03\x04": "an Excel or ZIP file", b"\xd0\xcf\x11\xe0": "an old Excel file"}
FORMS |= {b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file", b"%PDF": "a PDF file"}
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16's mark, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(stored: bytes, origin: str) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, and a note where it is not of UTF-8.

    Args:
      stored: the bytes of the file.
      origin: what the file is called in messages.

    Raises InputError for what is no text.

    >>> decode("größe".encode("latin-1"), "old.csv")
    ('größe', ('The file is not of UTF-8; it was read as Windows-1252 (latin-1).',))
    """
    for magic, form in FORMS.items():
        if stored.startswith(magic):
            raise InputError(f"{origin}: this is {form}: name it as one, or save it as CSV")
    encoding = _wide_encoding(stored)
    if encoding is not None:
        text, notes = (
            _strict(stored, encoding, origin),
            (f"The file was read as {encoding.upper()}.",),
        )
    else:
        try:
            text, notes = stored.decode("utf-8-sig"), ()
        except UnicodeDecodeError:
            text = stored.decode("cp1252", "replace")
            notes = ("The file is not of UTF-8; it was read as Windows-1252 (latin-1).",)
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise InputError(f"{origin}: line {line} holds a NUL byte: this is no text, or damaged")
    return text.removeprefix("\ufeff"), notes


def _wide_encoding(stored: bytes) -> str | None:
    """UTF-32 or UTF-16, by its mark or since every other byte of the first ones is 0."""
    for mark, encoding in MARKS.items():
        if stored.startswith(mark):
            return encoding
    sample = stored[: min(len(stored) // 2 * 2, 200)]
    if len(sample) >= 4 and not any(sample[1::2]) and all(sample[::2]):
        return "utf-16-le"
    if len(sample) >= 4 and not any(sample[::2]) and all(sample[1::2]):
        return "utf-16-be"
    return None


def _strict(stored: bytes, encoding: str, origin: str) -> str:
    try:
        return stored.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{origin}: damaged {encoding} text ({error.reason})") from error
