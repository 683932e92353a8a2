"""CSV files: the target decides the task, and what does not fit is named by line and column."""

import gzip

import numpy as np
import pytest

from fbp.data import load
from fbp.errors import InputError


def write(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def flowers(tmp_path, labels=("a", "b"), rows=40):
    body = [f"{i},{(i * 7) % 11 / 2},{labels[i % len(labels)]}" for i in range(rows)]
    return write(tmp_path / "flowers.csv", ["height,width,kind", *body])


def test_words_make_a_classification(tmp_path):
    dataset = load(flowers(tmp_path), target="kind")
    assert (dataset.task, dataset.classes) == ("classification", 2)
    assert dataset.target_names == ("a", "b")
    assert dataset.feature_names == ("height", "width")
    assert dataset.train.y.dtype == np.int32


def test_integers_make_a_classification_numbered_from_zero(tmp_path):
    dataset = load(flowers(tmp_path, labels=("-7", "+30")), target="kind")
    assert dataset.target_names == ("-7", "30")
    assert set(dataset.train.y) == {0, 1}


def test_other_numbers_make_a_regression(tmp_path):
    dataset = load(flowers(tmp_path, labels=("1.5", "2", "4e1")), target="kind")
    assert (dataset.task, dataset.classes, dataset.target_names) == ("regression", 0, ("kind",))
    assert dataset.train.y.dtype == np.float32
    values = np.unique(dataset.target_std * dataset.test.y + dataset.target_mean)
    np.testing.assert_allclose(values, [1.5, 2.0, 40.0], rtol=1e-5)


def test_columns_are_standardised_on_the_training_rows_alone(tmp_path):
    dataset = load(flowers(tmp_path), target="kind")
    np.testing.assert_allclose(dataset.train.x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train.x.std(axis=0), 1, rtol=1e-6)
    assert np.abs(dataset.test.x.mean(axis=0)).max() > 1e-3


def test_a_constant_column_becomes_zero(tmp_path):
    path = write(tmp_path / "c.csv", ["k,y", *[f"3,{i % 2}" for i in range(20)]])
    assert not load(path, target="y").train.x.any()


def test_a_gzipped_table_is_the_same_table(tmp_path):
    plain = flowers(tmp_path)
    (tmp_path / "z.csv.gz").write_bytes(gzip.compress((tmp_path / "flowers.csv").read_bytes()))
    packed = load("z.csv.gz", directory=tmp_path, target="kind")
    np.testing.assert_array_equal(packed.train.x, load(plain, target="kind").train.x)


def test_a_byte_order_mark_quotes_and_blank_lines_do_not_matter(tmp_path):
    body = [f'"{i}", {i % 2}\n\n' for i in range(20)]
    (tmp_path / "b.csv").write_text('\ufeff"x",y\n' + "".join(body), encoding="utf-8")
    dataset = load("b.csv", directory=tmp_path, target="y")
    assert dataset.feature_names == ("x",)
    assert dataset.classes == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"bad\.csv: the file is empty"),
        (["x,y"], "a header but no row"),
        (["x,x,y", "1,2,3"], "line 1: every column needs a name of its own"),
        (["x,,y", "1,2,3"], "line 1: every column needs a name of its own"),
        (["x,y", "1,0", "2"], "line 3 has 1 cells, the header 2"),
        (["x,y", "1,0", "", "2,1,5"], "line 4 has 3 cells, the header 2"),
        (["x,y", "1,0", "red,1"], "line 3, column 'x': 'red' is not a finite number"),
        (["x,y", "1,0", ",1"], "line 3, column 'x': '' is not a finite number"),
        (["x,y", "1,0", "nan,1"], "line 3, column 'x': 'nan' is not a finite number"),
        (["x,y", "1,0", "-inf,1"], "line 3, column 'x': '-inf' is not a finite number"),
        (["x,y", "1,0.5", "1,NaN"], "line 3, target 'y': 'NaN' is not a finite number"),
        (["x,y", "1,0", "1,"], "line 3, target 'y': the cell is empty"),
        (["y", "1", "2"], "'y' is the only column"),
        (["x,y", "1,0", "2,1"], "too few rows, the validation part is empty"),
        (["x,y", *["1,0"] * 20], "the only class is 0"),
        (["x,y", *["1,0.5"] * 20], r"the target is 0\.5 in every row"),
        (["x,y", '"1,0'], "not a CSV file"),
        (["x,y", *["1e300,0", "-1e300,1"] * 10], "too large for float32"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        load(write(tmp_path / "bad.csv", lines) if lines else empty(tmp_path), target="y")


def empty(tmp_path):
    (tmp_path / "bad.csv").touch()
    return str(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("target", "message"),
    [(None, "no target column is named"), ("weight", "no column 'weight'")],
)
def test_a_missing_target_lists_the_columns(tmp_path, target, message):
    with pytest.raises(InputError, match=f"{message}: give target, one of height, width, kind"):
        load(flowers(tmp_path), target=target)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes("größe,y\n1,2\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.csv: byte 2 is not UTF-8"):
        load("latin.csv", directory=tmp_path, target="y")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.csv: cannot be read \(No such file"):
        load("absent.csv", directory=tmp_path, target="y")
