"""Your own table: a text file of rows and columns, Parquet or Excel; one column is the target."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from fbp.data.integrity import content
from fbp.data.kinds import object_array
from fbp.data.table import Table, table_of
from fbp.data.table_text import columns_of
from fbp.data.text_encoding import decode
from fbp.errors import InputError, likeliest

TEXT = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat")
FRAMES = {".parquet": "read_parquet", ".xlsx": "read_excel", ".xls": "read_excel"}
INSTALL = "pip install 'fbp-jax[tables]'"


def is_table(name: str) -> bool:
    """Return whether a file of this name holds a table.

    >>> is_table("a.CSV"), is_table("a.tsv.gz"), is_table("a.npz")
    (True, True, False)
    """
    name = name.lower()
    return name.removesuffix(".gz").endswith(TEXT) or name.endswith(tuple(FRAMES))


def read_table(path: Path, names: Sequence[str] = (), *, as_text: bool = False) -> Table:
    """Return the table in a file; its notes say what was passed over, renamed or guessed.

    A text file (`.csv .tsv .tab .txt .data .dat`, plain or with `.gz`) is of UTF-8, UTF-16 or
    latin-1; commas, semicolons, tabs, bars or spaces separate its cells. Columns without a name
    are called as in pandas: `Unnamed: 0`, and `a.1` for a second `a`; without a header `column 1`.
    `.parquet`, `.xlsx` and `.xls` are read by pandas.

    Args:
      path: of the file.
      names: names that the header may hold: where it does, it is one.
      as_text: leave every cell as it is written, as new rows need it whose columns have kinds
        already; else columns of plain numbers are numbers at once where pandas is installed.

    Raises InputError, which names the file and the line, for what is no table.
    """
    if path.suffix.lower() in FRAMES:
        return _frame(path)
    text, notes = decode(content(path), str(path))
    columns = columns_of(text, str(path), names, parse=not as_text)
    header, more = _names(columns.header, len(columns.columns))
    return Table(
        tuple(header),
        tuple(c if isinstance(c, np.ndarray) else object_array(c) for c in columns.columns),
        lines=np.asarray(columns.lines),
        decimal_comma=columns.separator != ",",
        notes=(*notes, *columns.notes, *more),
    )


def split_target(
    table: Table, target: str | None, origin: str, option: str
) -> tuple[Table, Shaped[np.ndarray, " rows"]]:
    """Return the other columns, and the target's cells.

    Raises InputError, which says to give `option`, where no such column is there, or no other.
    """
    if target is None or target not in table.names:
        lacking = "no target column is named" if target is None else f"no column {target!r}"
        shown = ", ".join(table.names[:20]) + (", …" if len(table.names) > 20 else "")
        meant = "" if target is None else likeliest(target, table.names)
        raise InputError(f"{origin}: {lacking}: {meant}give {option}, one of {shown}")
    if len(table.names) == 1:
        raise InputError(f"{origin}: {target!r} is the only column: add columns to predict it from")
    return table.without(target), table.column(target)


def _names(header: list[str] | None, width: int) -> tuple[list[str], tuple[str, ...]]:
    if header is None:
        first, last = "column 1", f"column {width}"
        note = f"The file has no header: its columns are called {first} to {last}."
        return [f"column {number}" for number in range(1, width + 1)], (note,)
    names: list[str] = []
    notes = []
    for number, name in enumerate(header):
        unique = name or f"Unnamed: {number}"
        again = 0
        while unique in names:
            again += 1
            unique = f"{name}.{again}"
        if again:
            notes.append(f"Two columns are called {name}: the later one is {unique} here.")
        names.append(unique)
    return names, tuple(notes)


def _frame(path: Path) -> Table:
    if not path.is_file():
        raise InputError(f"{path}: cannot be read (No such file or directory): check the path")
    try:
        pandas: Any = importlib.import_module("pandas")
        frame = getattr(pandas, FRAMES[path.suffix.lower()])(path)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: is read with pandas ({reason}): {INSTALL}") from error
    except Exception as error:  # every engine has errors of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be read ({reason}): save it anew, or as CSV") from error
    if not len(frame) or not len(frame.columns):
        raise InputError(f"{path}: a table without rows: give at least one")
    names = [str(name) for name in frame.columns]
    return table_of(names, [frame.iloc[:, number] for number in range(len(names))])
