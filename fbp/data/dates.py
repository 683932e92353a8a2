"""Columns of dates: parsed from fixed places all at once, or one cell after another."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from fbp.data.cells import date_of

FIELDS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}  # digits of each
ISO = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
EMPTY = {"Y": b"1900", "m": b"01", "d": b"01", "H": b"00", "M": b"00", "S": b"00"}
FIRST = np.datetime64("0001-01-01")

Days = Shaped[np.ndarray, " rows"]


def dates_of(texts: Sequence[str], form: str) -> Days:
    """Return what `cells.date_of` reads in each cell, as datetime64[s]; NaT where it is no date.

    >>> dates_of(["31.12.1999", "32.12.1999"], "%d.%m.%Y").astype(str).tolist()
    ['1999-12-31T00:00:00', 'NaT']
    """
    for written in ISO if form == "iso" else (form,):
        dates = _of_fixed_width(texts, written)
        if dates is not None:
            return dates
    return np.array([date_of(text, form) for text in texts], "datetime64[s]")


def _of_fixed_width(texts: Sequence[str], form: str) -> Days | None:
    """Return the dates where all are digits at the places of a format; else None."""
    parts = re.findall(r"%(.)|(.)", form)
    if not texts or any(field and field not in FIELDS for field, _ in parts):
        return None
    width = sum(FIELDS[field] if field else 1 for field, _ in parts)
    if set(map(len, texts)) != {width} or not "".join(texts).isascii():
        return None
    signs = np.frombuffer("".join(texts).encode(), np.uint8).reshape(-1, width)
    at, fields = 0, {}
    for field, sign in parts:
        taken = signs[:, at : at + FIELDS.get(field, 1)]
        fits = (taken >= ord("0")) & (taken <= ord("9")) if field else taken == ord(sign)
        if not fits.all():
            return None
        fields |= {field: taken} if field else {}
        at += taken.shape[1]
    return _of_fields(fields, len(texts))


def _of_fields(fields: dict[str, np.ndarray], count: int) -> Days | None:
    columns = []
    for (field, empty), sign in zip(EMPTY.items(), b"--T::\n", strict=True):
        missing = np.broadcast_to(np.frombuffer(empty, np.uint8), (count, len(empty)))
        columns += [fields.get(field, missing), np.full((count, 1), sign, np.uint8)]
    written = np.ascontiguousarray(np.concatenate(columns[:-1], axis=1)).view("S19")[:, 0]
    try:
        dates = written.astype("datetime64[s]")
    except ValueError:
        return None  # no such day, as February 30
    return dates if (dates >= FIRST).all() else None
