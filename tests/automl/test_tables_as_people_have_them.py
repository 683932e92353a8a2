"""The files that people complain about: what is said of each, what it is read as, and predicted."""

import csv
import re

import numpy as np
import pytest

from fbp.automl.encode import encode, learn_encoder
from fbp.cli import main
from fbp.data.table_file import read_table, split_target
from fbp.data.target import read_labels, target_of
from fbp.errors import InputError

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=200), RNG.normal(size=200)
YES = np.where(A + B > 0, "yes", "no")
ROWS = [(f"{a:.4f}", f"{b:.4f}", y) for a, b, y in zip(A, B, YES, strict=True)]


def text(rows, header=("a", "b", "y"), separator=","):
    return "\n".join(separator.join(map(str, row)) for row in [header, *rows]) + "\n"


def each(change, column=0):
    """The rows, with one column changed: `change(number, cell)`."""
    return [
        tuple(change(i, cell) if n == column else cell for n, cell in enumerate(row))
        for i, row in enumerate(ROWS)
    ]


def read(path):
    """Target, encoder, notes, features: all that is decided before training."""
    table = read_table(path, ["y"])
    columns, cells = split_target(table, "y", str(path), "--target")
    target = target_of(read_labels(cells, "y", table), None, "y")
    encoder, notes, features = learn_encoder(columns[target.rows])
    return target, encoder, (*target.notes, *notes), features


NINTH = lambda marker: each(lambda i, cell: cell if i % 9 else marker)
MISSING = "Missing values count as the column's mean: 23 in a."

PLAIN = text(ROWS)
PARTS = ("elapsed", "year", "month (sin)", "month (cos)", "Monday", "Tuesday", "Wednesday")
PARTS = tuple(f"a: {part}" for part in (*PARTS, "Thursday", "Friday", "Saturday", "Sunday"))

CASES = {
    "plain": (PLAIN, ("a", "b"), ()),
    "byte order mark": (PLAIN.encode("utf-8-sig"), ("a", "b"), ()),
    "UTF-16": (PLAIN.encode("utf-16"), ("a", "b"), ("The file was read as UTF-16.",)),
    "line ends of Windows": (PLAIN.replace("\n", "\r\n").encode(), ("a", "b"), ()),
    "line ends of old": (PLAIN.replace("\n", "\r").encode(), ("a", "b"), ()),
    "semicolons": (text(ROWS, separator=";"), ("a", "b"), ()),
    "tabs": (text(ROWS, separator="\t"), ("a", "b"), ()),
    "bars": (text(ROWS, separator="|"), ("a", "b"), ()),
    "comma at the end": (PLAIN.replace("\n", ",\n"), ("a", "b"), ()),
    "comma at the end of rows": (PLAIN.replace("\n", ",\n").replace("y,", "y", 1), ("a", "b"), ()),
    "two columns of a name": (
        text(ROWS, ("a", "a", "y")),
        ("a", "a.1"),
        ("Two columns are called a: the later one is a.1 here.",),
    ),
    "comments": (f"# lab\n# 2024\n{PLAIN}", ("a", "b"), ("2 lines of comment (#) passed over.",)),
    "spaces": (text([(a, b, f" {y} ") for a, b, y in ROWS], ("a ", " b", " y ")), ("a", "b"), ()),
    "quotes after spaces": (
        text([(a, f' "{b}"', f' "{y}"') for a, b, y in ROWS], ("a", ' "b"', "y")),
        ("a", "b"),
        (),
    ),
    "dates": (
        text(each(lambda i, _: f"2024-{1 + i % 12:02d}-{1 + i % 28:02d}")),
        (*PARTS, "b"),
        (),
    ),
    "booleans": (text(each(lambda i, _: str(A[i] > 0))), ("a=False", "a=True", "b"), ()),
    "thousands": (
        text(each(lambda i, _: f'"{int(1e4 + 1e4 * A[i]):,}"')),
        ("a", "b"),
        (),
    ),
    "currency": (text(each(lambda i, _: f"${10 + A[i]:.2f}")), ("a", "b"), ("a: numbers in $.",)),
    "per cent": (text(each(lambda i, _: f"{50 + A[i]:.1f}%")), ("a", "b"), ("a: numbers in %.",)),
    "unit": (text(each(lambda i, _: f"{50 + A[i]:.1f} kg")), ("a", "b"), ("a: numbers in kg.",)),
    "decimal comma": (
        text([(a.replace(".", ","), b.replace(".", ","), y) for a, b, y in ROWS], separator=";"),
        ("a", "b"),
        ("a: a comma stands before the decimals.", "b: a comma stands before the decimals."),
    ),
    "dirty cell": (
        text(each(lambda i, cell: "3.0M" if i == 7 else cell)),
        ("a", "a: missing", "b"),
        (
            "a: numbers but for row 8 (line 9), '3.0M'; counted as missing.",
            "Missing values count as the column's mean: 1 in a.",
        ),
    ),
    "infinity": (
        text(each(lambda i, cell: "inf" if i == 9 else cell)),
        ("a", "a: missing", "b"),
        (
            "a: numbers but for row 10 (line 11), 'inf'; counted as missing.",
            "Missing values count as the column's mean: 1 in a.",
        ),
    ),
    "dash": (text(NINTH("-")), ("a", "a: missing", "b"), (MISSING,)),
    "excel": (text(NINTH("#N/A")), ("a", "a: missing", "b"), (MISSING,)),
    "excel error": (text(NINTH("#DIV/0!")), ("a", "a: missing", "b"), (MISSING,)),
    "pandas": (text(NINTH("<NA>")), ("a", "a: missing", "b"), (MISSING,)),
    "SAS": (text(NINTH(".")), ("a", "a: missing", "b"), (MISSING,)),
    "sentinel": (
        text(NINTH("-999")),
        ("a", "a: missing", "b"),
        ("a: -999 stands in 23 rows, far from all others, and is taken for a missing value.",),
    ),
    "None is a word": (
        text(each(lambda i, _: "None" if B[i] > 0 else "Attached")),
        ("a=Attached", "a=None", "b"),
        (),
    ),
    "NA is a word too": (
        text(each(lambda i, _: "NA" if B[i] > 0 else "DE")),
        ("a=DE", "a=NA", "b"),
        (),
    ),
    "names": (
        text(each(lambda i, _: f"{i:03d}e{i % 7}")),
        ("b",),
        ("Left out: a holds names, 200 different words in 200 rows.",),
    ),
    "codes": (
        text(each(lambda i, _: f"1_{i % 3}")),
        ("a=1_0", "a=1_1", "a=1_2", "b"),
        (),
    ),
    "zip codes": (
        text(each(lambda i, _: f"{i % 3:05d}")),
        ("a=00000", "a=00001", "a=00002", "b"),
        (),
    ),
    "large": (text(each(lambda i, _: f"{1e12 + 1e6 * A[i]:.0f}")), ("a", "b"), ()),
    "constant": (
        text(each(lambda *_: "0.1")),
        ("b",),
        ("Left out: a is 0.1 in every row.",),
    ),
    "index": (
        text([(i, *row) for i, row in enumerate(ROWS)], ("", "a", "b", "y")),
        ("a", "b"),
        ("Left out: Unnamed: 0 numbers the rows.",),
    ),
    "note": (
        text([(*row[:2], '"line one\nline ""two"", x"', row[2]) for row in ROWS], "abny"),
        ("a", "b"),
        ("Left out: n is 'line one\\nline \"two\", x' in every row.",),
    ),
}


def written(directory, content):
    path = directory / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# Half of what `y` depends on is not in these.
LOSING = {"names", "codes", "zip codes", "dates", "constant", "booleans"}
LOSING |= {"None is a word", "NA is a word too"}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_table_is_fitted_and_predicted(tmp_path, capsys, name):
    content, _, notes = CASES[name]
    path, out, table = written(tmp_path, content), tmp_path / "run", tmp_path / "p.csv"
    assert main(["fit", str(path), "--target", "y", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    for note in notes:  # the counts are those of the rows that are learnt from
        assert f"note: {re.split('[0-9]', note)[0]}" in said
    assert main(["predict", str(out), str(path), "--out", str(table)]) == 0
    with table.open(newline="", encoding="utf-8") as file:
        predicted = [row["y"] for row in csv.DictReader(file)]
    assert np.mean(predicted == YES) > (0.65 if name in LOSING else 0.85)


REFUSED = {
    "one row": (text(ROWS[:1]), "too few rows, n_samples = 1: give at least 5"),
    "four rows": (text(ROWS[:4]), "too few rows, n_samples = 4: give at least 5"),
    "a header only": (text([]), "a header but no row"),
    "nothing": ("", "the file is empty"),
    "one class": (text([(*row[:2], "yes") for row in ROWS]), "only one class, yes"),
    "one column": ("y\n" + "\n".join(YES), "'y' is the only column"),
    "a short row": (
        text([*ROWS[:50], ROWS[50][:2], *ROWS[51:]]),
        "line 52 has 2 cells, the header 3",
    ),
    "a NUL byte": (text([*ROWS[:50], ("1\0", "2", "yes")]), "line 52 holds a NUL byte"),
    "names as classes": (
        text([(*row[:2], f"name{i}") for i, row in enumerate(ROWS)]),
        "200 classes in 200 rows: these are names",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_learnt_from_is_refused_in_one_line(tmp_path, capsys, name):
    content, message = REFUSED[name]
    path = written(tmp_path, content)
    assert main(["fit", str(path), "--target", "y", "--out", str(tmp_path / "run")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", CASES)
def test_a_table_is_read_for_what_it_is(tmp_path, name):
    content, features, notes = CASES[name]
    target, encoder, said, values = read(written(tmp_path, content))
    assert target.classes.tolist() == ["no", "yes"]
    assert encoder.features == features
    assert said[0].startswith("y: predicted as 2 classes, since it holds words")
    assert said[1:] == notes
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 20


@pytest.mark.parametrize(
    ("cells", "task", "classes"),
    [
        (np.where(YES == "yes", "Mild", "None"), "classification", ["Mild", "None"]),
        ([f"{i % 3}.0" for i in range(200)], "classification", [0.0, 1.0, 2.0]),
        ([f"{i % 3}" for i in range(200)], "classification", [0, 1, 2]),
        (np.random.default_rng(1).poisson(8, 200), "regression", []),
        (np.where(YES == "yes", "TRUE", "FALSE"), "classification", ["FALSE", "TRUE"]),
        ([f"${i}.50" for i in range(200)], "regression", []),
        (["" if i % 9 == 0 else f"{i % 3}" for i in range(200)], "classification", [0, 1, 2]),
        (["3.0M" if i == 7 else f"{i}" for i in range(200)], "regression", []),
    ],
)
def test_a_target_is_read_for_what_it_is(tmp_path, cells, task, classes):
    rows = [(*row[:2], cell) for row, cell in zip(ROWS, cells, strict=True)]
    (tmp_path / "t.csv").write_text(text(rows), encoding="utf-8")
    target, *_ = read(tmp_path / "t.csv")
    assert target.task == task
    assert target.classes.tolist() == classes


def test_rows_without_a_target_are_left_out_and_counted(tmp_path):
    rows = [(*row[:2], "NA" if i % 50 == 0 else row[2]) for i, row in enumerate(ROWS)]
    (tmp_path / "t.csv").write_text(text(rows), encoding="utf-8")
    target, _, notes, features = read(tmp_path / "t.csv")
    assert len(features) == len(target.values) == 196
    assert "4 rows without a value of y left out: the first is row 1 (line 2)." in notes


def test_classes_that_differ_in_capitals_are_noted(tmp_path):
    rows = [(*row[:2], row[2].upper() if i % 5 == 0 else row[2]) for i, row in enumerate(ROWS)]
    (tmp_path / "t.csv").write_text(text(rows), encoding="utf-8")
    _, _, notes, _ = read(tmp_path / "t.csv")
    assert "'NO' and 'no' are two classes that differ in capitals only" in notes[1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(*row[:2], "yes") for row in ROWS], "only one class, yes"),
        ([(*row[:2], f"name{i}") for i, row in enumerate(ROWS)], "y: 200 classes in 200 rows"),
        ([(*row[:2], "NA") for row in ROWS], "y: no row has a value"),
        (
            [(*row[:2], f"2024-01-{1 + i % 28:02d}") for i, row in enumerate(ROWS)],
            "dates cannot be",
        ),
    ],
)
def test_a_target_that_cannot_be_learnt_is_one_line(tmp_path, rows, message):
    (tmp_path / "t.csv").write_text(text(rows), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "t.csv")


def test_a_new_row_is_read_as_the_training_rows_were(tmp_path):
    (tmp_path / "t.csv").write_text(CASES["decimal comma"][0], encoding="utf-8")
    _, encoder, _, features = read(tmp_path / "t.csv")
    (tmp_path / "new.csv").write_text(f"a;b\n{ROWS[3][0]};{ROWS[3][1].replace('.', ',')}\n")
    (row,) = encode(encoder, read_table(tmp_path / "new.csv"))
    np.testing.assert_array_equal(row, features[3])
