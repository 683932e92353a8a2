"""From the columns of a table to numbers near 0: how is learnt from the training rows.

A new cell is read by what was learnt of its column, never by the cells beside it: the features of
many rows are those of each row alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

from fbp.data.columns import Column, encode_column, learn_column
from fbp.data.feature_notes import learning_notes, reasons, unfamiliar_note
from fbp.data.kinds import Words
from fbp.data.table import Table, read_columns
from fbp.errors import InputError

MOST_WORDS = 200  # of a column: the commonest; all further ones are "other"
MOST_FEATURES = 5e7  # rows times features of words, some 200 MB: with more, fewer words are kept


@dataclass(frozen=True)
class TableEncoder:
    """How a table becomes features.

    Attributes:
      columns: those that are used.
      names: of all columns of the training table, in order.
      named: whether they have names of their own.
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...]
    named: bool = True

    @property
    def features(self) -> tuple[str, ...]:
        """Name each feature."""
        return tuple(feature for column in self.columns for feature in column.features)


def learn_table(
    table: Table, rows: Shaped[np.ndarray, " some"] | slice = slice(None)
) -> tuple[TableEncoder, tuple[str, ...], tuple[Shaped[np.ndarray, " rows"], ...]]:
    """Learn how a table becomes features: kinds from all rows, numbers and words from `rows`.

    Left out are columns that are empty, constant, count the rows, or hold names (words of which
    hardly one comes twice); each is named in a note.

    Returns the encoder, the notes, and the values of each column by its kind.

    Raises InputError where no column is left.

    >>> from fbp.data.table import table_of
    >>> encoder, notes, _ = learn_table(table_of(["age"], [np.array([1.0, 3.0, np.nan])]))
    >>> encoder.features, notes
    (('age', 'age: missing'), ("Missing values count as the column's mean: 1 in age.",))
    """
    kinds, values, notes = read_columns(table)
    learning = [column[rows] for column in values]
    words = sum(isinstance(kind, Words) for kind in kinds)
    most = int(np.clip(MOST_FEATURES / max(1, len(table) * words), 20, MOST_WORDS))
    learnt = [
        learn_column(name, kind, cells, most)
        for name, kind, cells in zip(table.names, kinds, learning, strict=True)
    ]
    used = tuple(column for column in learnt if not isinstance(column, str))
    left_out = {n: why for n, why in zip(table.names, learnt, strict=True) if isinstance(why, str)}
    if not used:
        raise InputError(f"no column can be used: {reasons(left_out)}")
    cells = dict(zip(table.names, learning, strict=True))
    notes = (*table.notes, *notes, *learning_notes(used, cells, left_out))
    return TableEncoder(used, table.names, table.named), notes, values


def encode_table(encoder: TableEncoder, table: Table) -> Float32[np.ndarray, "rows features"]:
    """Return the features of each row.

    Columns that are not used may be missing, and there may be further ones; a table without
    names must have as many columns as the training's.

    Raises InputError where a column is missing.

    >>> from fbp.data.table import table_of
    >>> encoder, _, _ = learn_table(table_of(["kind"], [["a", "b", "a", "b"]]))
    >>> encode_table(encoder, table_of(["kind"], [["b", "a", "c"]]))
    array([[0., 1.],
           [1., 0.],
           [0., 0.]], dtype=float32)
    """
    return _features(len(table), _matched(encoder, table))


def encode_values(
    encoder: TableEncoder, names: Sequence[str], values: Sequence[Shaped[np.ndarray, " rows"]]
) -> Float32[np.ndarray, "rows features"]:
    """Return the features of values that `learn_table` has read, without reading them again."""
    cells = dict(zip(names, values, strict=True))
    return _features(len(values[0]), [(c, cells[c.name]) for c in encoder.columns])


def unfamiliar(encoder: TableEncoder, table: Table) -> tuple[str, ...]:
    """Return a note for each column with cells that the training rows prepared nobody for.

    >>> from fbp.data.table import table_of
    >>> encoder, _, _ = learn_table(table_of(["kind"], [["a", "b", "a", "b"]]))
    >>> unfamiliar(encoder, table_of(["kind"], [["b", "c"]]))
    ("kind: 1 cell with a word that training has not seen, first 'c' in row 2.",)
    """
    notes = [unfamiliar_note(c, cells, table) for c, cells in _matched(encoder, table)]
    return tuple(note for note in notes if note)


def _matched(encoder: TableEncoder, table: Table) -> list[tuple[Column, np.ndarray]]:
    if not table.named and len(table.names) == len(encoder.names):
        cells = dict(zip(encoder.names, table.columns, strict=True))
    elif not table.named and not encoder.named:
        raise InputError(
            f"x has {len(table.names)} columns, but the model was trained on {len(encoder.names)}"
        )
    else:
        cells = dict(zip(table.names, table.columns, strict=True))
    missing = [column.name for column in encoder.columns if column.name not in cells]
    if missing:
        used = ", ".join(column.name for column in encoder.columns)
        raise InputError(
            f"the columns are not those of the training, no column {', '.join(missing)}: give "
            f"{used}"
        )
    return [(column, cells[column.name]) for column in encoder.columns]


def _features(
    rows: int, columns: Sequence[tuple[Column, np.ndarray]]
) -> Float32[np.ndarray, "rows features"]:
    widths = [len(column.features) for column, _ in columns]
    features = np.empty((rows, sum(widths)), np.float32)
    for (column, cells), end, width in zip(columns, np.cumsum(widths), widths, strict=True):
        features[:, end - width : end] = encode_column(column, cells)
    return features
