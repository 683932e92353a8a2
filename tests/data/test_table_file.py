"""Tables as people have them: each is read for what it is, or refused in one line."""

import gzip

import numpy as np
import pytest

from fbp.data import load
from fbp.data.table_file import read_table
from fbp.errors import InputError

ROWS = [(f"{i}.5", f"{(i * 7) % 11}", "ab"[i % 2]) for i in range(40)]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def body(separator=",", rows=ROWS):
    return "".join(separator.join(row) + "\n" for row in rows)


def column(table, name):
    return table.column(name).tolist()


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("a,b,y\n" + body(), "utf-8"),
        ("a,b,y\n" + body(), "utf-8-sig"),
        ("a,b,y\n" + body(), "utf-16"),
        ("a,b,y\n" + body(), "latin-1"),
        ("a,b,y\r\n" + body().replace("\n", "\r\n"), "utf-8"),
        ("a,b,y\r" + body().replace("\n", "\r"), "utf-8"),
        ("a;b;y\n" + body(";"), "utf-8"),
        ("a\tb\ty\n" + body("\t"), "utf-8"),
        ("a|b|y\n" + body("|"), "utf-8"),
        ("a b y\n" + body(" "), "utf-8"),
        ("a   b  y\n" + body("    "), "utf-8"),
        ("# lab\n# 2024\na,b,y\n" + body(), "utf-8"),
        ("#a,b,y\n" + body(), "utf-8"),
        ("a,b,y,\n" + body().replace("\n", ",\n"), "utf-8"),
        ("a,b,y\n" + body().replace("\n", ",\n"), "utf-8"),
        (' a, "b",y \n' + body(", "), "utf-8"),
        ('"a","b","y"\n\n' + body().replace("\n", "\n\n"), "utf-8"),
    ],
)
def test_one_table_written_in_many_ways_is_one_table(tmp_path, text, encoding):
    table = read_table(write(tmp_path / "t.csv", text, encoding), as_text=True)
    names = tuple(name.lstrip("#") for name in table.names)
    assert names == ("a", "b", "y")
    assert list(zip(*(c.tolist() for c in table.columns), strict=True)) == ROWS


@pytest.mark.parametrize("name", ["t.CSV", "t.tsv", "t.txt", "t.data", "t.csv.gz", "t.dat.GZ"])
def test_the_name_of_a_file_says_that_it_is_a_table(tmp_path, name):
    content = ("a,b,y\n" + body()).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if "gz" in name.lower() else content)
    dataset = load(name, directory=tmp_path, target="y")
    assert dataset.feature_names == ("a", "b")


def test_a_file_without_a_header_names_its_columns_by_number(tmp_path):
    table = read_table(write(tmp_path / "t.csv", body()))
    assert table.names == ("column 1", "column 2", "column 3")
    assert len(table) == 40
    assert "no header" in table.notes[0]


def test_years_as_names_of_columns_are_a_header(tmp_path):
    text = "1990,1991,1992\n" + "".join(f"{i},{i * 2},{i * 3}\n" for i in range(9))
    assert read_table(write(tmp_path / "t.csv", text)).names == ("1990", "1991", "1992")


def test_a_name_that_is_expected_makes_a_header(tmp_path):
    path = write(tmp_path / "t.csv", "3,a\n1,a\n2,a\n")
    assert read_table(path).names == ("column 1", "column 2")
    assert read_table(path, ["3"]).names == ("3", "a")


def test_columns_are_named_as_pandas_names_them(tmp_path):
    table = read_table(write(tmp_path / "t.csv", ",a,a\n0,1,2\n1,5,6\n"))
    assert table.names == ("Unnamed: 0", "a", "a.1")
    assert table.notes == ("Two columns are called a: the later one is a.1 here.",)


def test_row_names_of_r_have_no_name(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "a,b\nx,1,2\ny,3,4\nz,5,6\n"))
    assert table.names == ("Unnamed: 0", "a", "b")
    assert column(table, "Unnamed: 0") == ["x", "y", "z"]


def test_a_cell_of_several_lines_keeps_the_line_numbers(tmp_path):
    table = read_table(write(tmp_path / "t.csv", 'a,b\n1,"one\n""two"""\n2,x\n'))
    assert column(table, "b") == ['one\n"two"', "x"]
    assert [table.row_name(0), table.row_name(1)] == ["row 1 (line 3)", "row 2 (line 4)"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_wide_characters_are_read_with_and_without_a_mark(tmp_path, encoding):
    table = read_table(write(tmp_path / "t.csv", "a,b,y\n" + body(), encoding), as_text=True)
    assert table.names == ("a", "b", "y")
    assert table.notes == (f"The file was read as {encoding.upper()}.",)


def test_a_carriage_return_within_a_line_ends_no_row(tmp_path):
    text = 'a,text\n1,one\rtwo\n2,"three\nfour"\n'
    table = read_table(write(tmp_path / "t.csv", text), as_text=True)
    assert column(table, "text") == ["one two", "three\nfour"]


def test_another_encoding_is_said(tmp_path):
    text = "größe,y\n" + "".join(f"{i},{i % 2}\n" for i in range(30))
    for encoding, note in (("latin-1", "Windows-1252"), ("utf-16", "UTF-16")):
        table = read_table(write(tmp_path / "t.csv", text, encoding))
        assert table.names[0] == "größe"
        assert note in table.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv: the file is empty"),
        ("\n \n", r"t\.csv: the file is empty"),
        ("a,y\n", "a header but no row"),
        ("a,y\n1,0\n2\n", "line 3 has 1 cells, the header 2"),
        ("a,y\n1,0\n\n2,1,5\n", "line 4 has 3 cells, the header 2"),
        ("a,b,c\n1,0\n2,1\n", "line 2 has 2 cells, the header 3"),
        ('"a",b,c\n1,0,3,4,5\n', "line 2 has 5 cells, the header 3"),
        ('a,y\n"1,0', "not a CSV file"),
        ("a,y\n1,0\n2\0,1\n", "line 3 holds a NUL byte"),
        ("PK\x03\x04", "this is an Excel or ZIP file"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_table(write(tmp_path / "t.csv", text))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv: cannot be read \(No such file"):
        load("absent.csv", directory=tmp_path, target="y")


@pytest.mark.parametrize("target", [None, "weight"])
def test_a_missing_target_lists_the_columns(tmp_path, target):
    write(tmp_path / "t.csv", "a,b,y\n" + body())
    with pytest.raises(InputError, match=r"give target, one of a, b, y$"):
        load("t.csv", directory=tmp_path, target=target)


def test_the_sweep_reads_as_the_fit_does(tmp_path):
    rows = [(*row[:2], str(3 * (i // 10))) for i, row in enumerate(ROWS)]
    write(tmp_path / "t.csv", "a,b,y\n" + body(rows=[("", "x", "9"), *rows]))
    dataset = load("t.csv", directory=tmp_path, target="y")
    assert dataset.task == "regression"
    assert dataset.feature_names == ("a", "a: missing", "b", "b: missing")
    assert any("b: numbers but for row 1 (line 2), 'x'" in note for note in dataset.notes)
    classes = load("t.csv", directory=tmp_path, target="y", task="classes")
    assert classes.target_names == ("0", "3", "6", "9")


def test_columns_are_standardized_on_the_training_rows_alone(tmp_path):
    write(tmp_path / "t.csv", "a,b,y\n" + body())
    dataset = load("t.csv", directory=tmp_path, target="y")
    np.testing.assert_allclose(dataset.train.x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train.x.std(axis=0), 1, rtol=1e-6)
    assert np.abs(dataset.test.x.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("1", "2", "y")], "too few rows, the validation part is empty|only one class"),
        ([("1", "2", "0.5")] * 20, "0.5 in every row"),
        ([("3", "4", "ab"[i % 2]) for i in range(20)], "no column can be used: a is 3 in every"),
    ],
)
def test_what_cannot_be_learnt_is_refused(tmp_path, rows, message):
    write(tmp_path / "t.csv", "a,b,y\n" + body(rows=rows))
    with pytest.raises(InputError, match=message):
        load("t.csv", directory=tmp_path, target="y")


@pytest.mark.parametrize(("form", "engine"), [("parquet", "pyarrow"), ("xlsx", "openpyxl")])
def test_parquet_and_excel_are_read_as_their_data_frame(tmp_path, form, engine):
    pytest.importorskip(engine, reason="an extra brings it")
    pandas = pytest.importorskip("pandas", reason="an extra brings it")
    frame = pandas.DataFrame(
        {
            "size": [0.5, None, 1.5] * 10,
            "day": pandas.date_range("2024", periods=30),
            "word": ["a", "b", None] * 10,
            "code": [1, 2, 3] * 10,
        }
    )
    path = tmp_path / f"t.{form}"
    getattr(frame, {"parquet": "to_parquet", "xlsx": "to_excel"}[form])(path, index=False)
    dataset = load(str(path), target="code")
    assert dataset.target_names == ("1", "2", "3")
    assert dataset.feature_names[:3] == ("size", "size: missing", "day: elapsed")
    assert dataset.feature_names[-3:] == ("word=missing", "word=a", "word=b")


def test_parquet_and_excel_are_read_or_say_what_to_install(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(InputError, match=r"t\.parquet: (is read with pandas|cannot be read)"):
        read_table(tmp_path / "t.parquet")
