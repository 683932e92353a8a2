"""Your own table: a CSV file with a header, one row an example, one column the target."""

import csv
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from fbp.data.dataset import Source
from fbp.data.integrity import content
from fbp.errors import InputError


def read(path: Path, target: str | None) -> Source:
    """The table in a CSV file (UTF-8, comma-separated, first line names the columns).

    A target of integers or of words makes a classification, one of other numbers a regression
    (write 3.0, not 3, to have whole numbers predicted as numbers). All other columns are
    features and must hold finite numbers. InputError names the file, line and column of what
    does not fit.
    """
    header, rows, lines = _rows(path)
    if target is None or target not in header:
        lacking = "no target column is named" if target is None else f"no column {target!r}"
        raise InputError(f"{path}: {lacking}: give target, one of {', '.join(header)}")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    names = tuple(name for name in header if name != target)
    if not names:
        raise InputError(f"{path}: {target!r} is the only column: add columns to predict it from")
    x = [_numbers(columns[name], lines, f"column {name!r}", path) for name in names]
    return Source(
        origin=str(path),
        x=np.stack(x, axis=1),
        y=_target(columns[target], lines, target, path),
        feature_names=names,
        target_names=(target,),
    )


def columns_of(path: Path) -> dict[str, tuple[str, ...]]:
    """The cells of each column as text, by the names of the header; see `read` for the format.

    Raises InputError for what is no such file, naming the file and line.
    """
    header, rows, _ = _rows(path)
    return dict(zip(header, zip(*rows, strict=True), strict=True))


def _rows(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows as text, and the line of the file on which each row ends."""
    try:
        reader = csv.reader(io.StringIO(content(path).decode("utf-8-sig"), newline=""), strict=True)
        numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8"
        ) from error
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error}): check its quotes") from error
    if not numbered:
        raise InputError(f"{path}: the file is empty: give a header and at least one row")
    (_, header), *body = numbered
    if len(set(header)) != len(header) or "" in header:
        raise InputError(f"{path}: line 1: every column needs a name of its own, got {header}")
    if not body:
        raise InputError(f"{path}: a header but no row: give at least one row")
    for line, row in body:
        if len(row) != len(header):
            raise InputError(
                f"{path}: line {line} has {len(row)} cells, the header {len(header)}: "
                "give every row one cell per column"
            )
    return header, [row for _, row in body], [line for line, _ in body]


def _numbers(
    cells: tuple[str, ...], lines: list[int], where: str, path: Path
) -> Float64[np.ndarray, " rows"]:
    values = [_number(cell) for cell in cells]
    for line, cell, value in zip(lines, cells, values, strict=True):
        if value is None or not np.isfinite(value):
            raise InputError(
                f"{path}: line {line}, {where}: {cell!r} is not a finite number: "
                "correct it, or remove the row or the column"
            )
    return np.array(values, dtype=np.float64)


def _target(
    cells: tuple[str, ...], lines: list[int], name: str, path: Path
) -> Shaped[np.ndarray, " rows"]:
    for line, cell in zip(lines, cells, strict=True):
        if not cell:
            raise InputError(
                f"{path}: line {line}, target {name!r}: the cell is empty: fill it in or remove "
                "the row"
            )
    try:
        return np.array([int(cell) for cell in cells], dtype=np.int64)
    except (ValueError, OverflowError):
        words = any(_number(cell) is None for cell in cells)
    return np.array(cells) if words else _numbers(cells, lines, f"target {name!r}", path)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
