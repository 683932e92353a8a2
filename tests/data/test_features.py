"""New cells are read by what was learnt of their column alone: the law of rows, and each kind."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbp.automl.inputs import inputs_of
from fbp.data.features import encode_table, learn_table, unfamiliar
from fbp.data.kinds import Dates, Numbers, Words
from fbp.data.table import read_columns, table_of
from fbp.data.table_text import columns_of
from fbp.errors import InputError

TEXTS = st.sampled_from(
    [
        *("", "1", "250.0", "007", "1234567", "1,234", "3.0M", "NA", "None", "x", "red", "Red"),
        *("1e400", "inf", "nan", "1_0", "$5", "12 kg", "2024-01-02", "-", "(3)", "1e5", "true"),
        *(" 7 ", "٣"),
    ]
)
NUMBERS = st.one_of(st.floats(allow_nan=True, allow_infinity=False), st.integers(-9, 300))
CELLS = st.one_of(TEXTS, NUMBERS, st.none(), st.booleans())


def table(**columns):
    return table_of(list(columns), columns.values())


def trained():
    rng = np.random.default_rng(0)
    return table(
        number=rng.normal(size=40),
        word=["red", "250", "007", "true"] * 10,
        price=[f"${i},{i:03d}" for i in range(1, 41)],
        comma=[f"{i},5" for i in range(40)],
        date=[f"2024-0{1 + i % 9}-01" for i in range(40)],
        rare=["common"] * 30 + [f"name {i}" for i in range(10)],
    )


ENCODER, _, _ = learn_table(trained())


@given(st.lists(st.tuples(*[CELLS] * 6), min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_rows_become_what_each_row_becomes_alone(rows):
    columns = list(zip(*rows, strict=True))
    together = encode_table(ENCODER, table_of(ENCODER.names, [list(c) for c in columns]))
    alone = [encode_table(ENCODER, table_of(ENCODER.names, [[c] for c in row])) for row in rows]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert np.isfinite(together).all()


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_rows_of_a_list_become_what_each_row_becomes_alone(rows):
    encoder, _, _ = learn_table(table_of(["a", "b"], [[1.0, 2.0, 5.0], ["2", "x", "2"]]))
    together = encode_table(encoder, inputs_of(rows))
    alone = [encode_table(encoder, inputs_of([row])) for row in rows]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_columns_of_the_training_are_of_the_kinds_that_they_look_like():
    kinds = dict(zip(ENCODER.names, read_columns(trained())[0], strict=True))
    assert isinstance(kinds["number"], Numbers)
    assert kinds["word"] == kinds["rare"] == Words()
    assert kinds["price"].form.unit == "$"
    assert kinds["comma"].form.decimal == ","
    assert kinds["date"] == Dates("iso")


def test_a_constant_column_is_left_out_and_said():
    encoder, notes, _ = learn_table(table(c=np.full(200, 0.1), a=np.arange(200.0) % 7))
    assert [column.name for column in encoder.columns] == ["a"]
    assert notes == ("Left out: c is 0.1 in every row.",)
    assert learn_table(table(c=np.array([0.3, 0.1 * 3] * 9), a=np.arange(18.0)))[0] == encoder or (
        [
            c.name
            for c in learn_table(table(c=np.array([0.3, 0.1 * 3] * 9), a=np.arange(18.0)))[
                0
            ].columns
        ]
        == ["a"]
    )


@pytest.mark.parametrize("value", [1e300, -1e300, 1e9, np.nan])
def test_a_cell_far_outside_the_training_range_is_finite(value):
    encoder, _, _ = learn_table(table(a=np.arange(9.0), b=np.array([1e308, -1e308, 0] * 3)))
    features = encode_table(encoder, table(a=[value], b=[value]))
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 20


def test_one_dirty_cell_is_missing_and_named():
    cells = [str(i) for i in range(50)]
    cells[42] = "3.0M"
    encoder, notes, _ = learn_table(table(reviews=cells))
    assert "reviews: numbers but for row 43, '3.0M'; counted as missing." in notes
    assert encoder.features == ("reviews", "reviews: missing")


def test_a_note_names_the_row_of_the_table_that_the_rows_were_taken_from():
    cells = [str(i) for i in range(50)]
    cells[42] = "3.0M"
    raw = table(reviews=cells)[np.arange(2, 50)][np.arange(5, 48)]
    _, notes, _ = learn_table(raw)
    assert notes[0] == "reviews: numbers but for row 43, '3.0M'; counted as missing."


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,234", "12,345,678"], [1234, 12345678]),
        (["$10.50", "-$9", "$1,000"], [10.5, -9, 1000]),
        (["50.1%", "40 %"], [50.1, 40]),
        (["12 kg", "13.5 kg", "9"], [12, 13.5, 9]),
        (["0,1234", "1,5", "-0,25"], [0.1234, 1.5, -0.25]),
        (["1.234,56", "2.000,00"], [1234.56, 2000]),
        (["(1,200)", "300"], [-1200, 300]),
        (["1 234", "5 678 901"], [1234, 5678901]),
        (["1", ".", "#N/A", "#DIV/0!", "<NA>", "None", "-", "2"], [1, *[np.nan] * 6, 2]),
    ],
)
def test_numbers_are_read_as_people_write_them(cells, values):
    (kind,), (column,), notes = read_columns(table(a=cells))
    assert isinstance(kind, Numbers)
    np.testing.assert_array_equal(column, values)
    assert notes == ()


@pytest.mark.parametrize(
    "cells",
    [
        ["007", "012", "100"],
        ["003e1", "013e2"],
        ["1_1", "1_2"],
        ["Q1", "Q2"],
        ["20-30", "30-40"],
        ["15-24", "25-39", "40-"],
        ["1st", "2nd"],
        ["True", "False"],
        ["None", "Attached"],
        ["1:2", "2:1"],
    ],
)
def test_words_that_look_like_numbers_stay_words(cells):
    raw = table(a=cells * 5)
    assert read_columns(raw)[0] == (Words(),)
    encoder, _, _ = learn_table(raw)
    assert set(encoder.columns[0].words) == set(cells)


def test_more_than_two_hundred_words_keep_the_commonest_and_the_others():
    words = [f"w{i % 300}" for i in range(1000)]
    encoder, notes, _ = learn_table(table(word=words))
    assert len(encoder.features) == 201
    assert any("200 commonest words" in note for note in notes)
    other = encode_table(encoder, table(word=["never seen", "w299"]))
    assert other[:, -1].tolist() == [1, 1]


def test_the_fifty_first_word_drops_nothing():
    words = [f"w{i % 51}" for i in range(510)]
    assert len(learn_table(table(word=words))[0].features) == 51


def test_names_are_left_out():
    with pytest.raises(InputError, match="name holds names, 40 different words in 40 rows"):
        learn_table(table(name=[f"person {i}" for i in range(40)]))


@pytest.mark.parametrize(("name", "left_out"), [("id", True), ("Row ID", True), ("index", False)])
def test_an_identifier_is_left_out_in_any_order(name, left_out):
    encoder, notes, _ = learn_table(table(**{name: [4, 9, 2, 7, 5], "a": [1.0, 2, 3, 1, 2]}))
    assert (encoder.features == ("a",)) == left_out
    assert (notes == (f"Left out: {name} numbers the rows.",)) == left_out
    again = learn_table(table(**{name: [4, 9, 2, 4, 5], "a": [1.0, 2, 3, 1, 2]}))[0]
    assert again.features == (name, "a")


def test_a_column_that_counts_the_rows_is_left_out():
    index = {"Unnamed: 0": np.arange(20), "a": np.arange(20) % 3}
    encoder, notes, _ = learn_table(table_of(list(index), index.values()))
    assert [column.name for column in encoder.columns] == ["a"]
    assert notes == ("Left out: Unnamed: 0 numbers the rows.",)


def test_dates_become_elapsed_days_year_month_and_weekday():
    days = np.datetime64("2024-01-01") + np.arange(400)
    encoder, _, _ = learn_table(table(when=[str(day) for day in days]))
    features = encode_table(encoder, table(when=["2024-01-01", "2024-01-07", "2025-02-03"]))
    at = {name.removeprefix("when: "): i for i, name in enumerate(encoder.features)}
    assert features[:, at["Monday"]].tolist() == [1, 0, 1]
    assert features[:, at["Sunday"]].tolist() == [0, 1, 0]
    assert np.all(np.diff(features[:, at["elapsed"]]) > 0)
    assert features[0, at["year"]] < features[2, at["year"]]
    np.testing.assert_allclose(features[0, at["month (cos)"]], 1, atol=0.01)


def test_times_of_the_day_are_told_by_their_phase():
    encoder, notes, _ = learn_table(table(at=["06:00", "12:30", "18:00", "23:59"] * 5))
    assert notes == ("at: dates written as %H:%M.",)
    features = dict(
        zip(encoder.features, encode_table(encoder, table(at=["18:00"]))[0], strict=True)
    )
    assert features["at: time (sin)"] == pytest.approx(-1)
    assert features["at: time (cos)"] == pytest.approx(0, abs=1e-6)


def test_a_number_that_recurs_far_from_all_others_counts_as_missing():
    sizes = [*np.linspace(1, 2, 30), -999, -999]
    encoder, notes, _ = learn_table(table(size=sizes))
    assert (
        "size: -999 stands in 2 rows, far from all others, and is taken for a missing" in notes[0]
    )
    features = encode_table(encoder, table(size=["-999", "", "1.5", "-999.5"]))
    np.testing.assert_array_equal(features[0], features[1])
    np.testing.assert_array_equal(features[:, 1], [1, 1, 0, 0])
    assert unfamiliar(encoder, table(size=["-999"])) == ()
    assert learn_table(table(size=[*np.linspace(1, 2, 30), -999]))[0].features == ("size",)
    assert learn_table(table(won=[-1.0, 1.0] * 9))[0].features == ("won",)


def test_categories_of_a_data_frame_are_words_and_spans_of_time_are_numbers():
    frame = pd.DataFrame(
        {
            "class": pd.Categorical([3, 1, None, 3] * 3),
            "span": pd.to_timedelta([1, 2, None, 4] * 3, unit="h"),
        }
    )
    encoder, _, _ = learn_table(inputs_of(frame))
    assert encoder.features == ("class=missing", "class=1", "class=3", "span", "span: missing")
    alone = encode_table(encoder, table(**{"class": [3.0], "span": [7200.0]}))
    np.testing.assert_array_equal(
        encode_table(encoder, inputs_of(frame.iloc[[1]]))[:, 3:], alone[:, 3:]
    )
    np.testing.assert_array_equal(alone[:, :3], [[0, 0, 1]])


def test_unused_columns_may_be_missing_and_others_be_there():
    encoder, _, _ = learn_table(table(c=np.ones(9), a=np.arange(9.0)))
    features = encode_table(encoder, table(z=["?"], a=[4.0]))
    np.testing.assert_array_equal(features, [[0]])
    with pytest.raises(InputError, match="no column a: give a"):
        encode_table(encoder, table(c=[1.0]))


def test_an_array_must_have_as_many_columns():
    encoder, _, _ = learn_table(inputs_of(np.random.default_rng(0).normal(size=(9, 3))))
    with pytest.raises(InputError, match="x has 2 columns, but the model was trained on 3"):
        encode_table(encoder, inputs_of(np.zeros((1, 2))))


def test_unseen_words_and_far_values_are_noted():
    encoder, _, _ = learn_table(table(kind=["a", "b"] * 5, size=np.arange(10.0)))
    notes = unfamiliar(encoder, table(kind=["c", "a", "d"], size=["1e9", "1", "x"]))
    assert "2 cells with a word that training has not seen, first 'c' in row 1" in notes[0]
    assert "first 'x' in row 3" in notes[1]
    assert unfamiliar(encoder, table(kind=["b"], size=[3])) == ()


def test_a_data_frame_of_every_kind_is_a_table():
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None, 3, 4], "Int64"),
            "s": pd.array(["a", None, "b", "a"], "string"),
            "c": pd.Categorical(["x", "y", "x", None]),
            "d": pd.to_datetime(["2024-01-01", None, "2024-03-01", "2024-04-01"]),
            "z": pd.to_datetime(["2024-01-01"] * 3 + ["2024-02-01"]).tz_localize("Europe/Berlin"),
            "f": [0.5, np.nan, 1.5, 2.5],
            "b": pd.array([True, None, False, True], "boolean"),
            "o": [1, "two", None, 3.5],
        }
    )
    kinds = [type(kind).__name__ for kind in read_columns(inputs_of(frame))[0]]
    assert kinds == ["Numbers", "Words", "Words", "Dates", "Dates", "Numbers", "Words", "Numbers"]
    encoder, _, _ = learn_table(inputs_of(frame))
    assert np.isfinite(encode_table(encoder, inputs_of(frame))).all()


def test_a_frame_read_by_pandas_is_encoded_as_the_file(tmp_path):
    from fbp.data.table_file import read_table

    path = tmp_path / "t.csv"
    path.write_text(
        "n,w,d\n" + "".join(f"{i},{'ab'[i % 2]},2024-01-{i + 1:02d}\n" for i in range(9))
    )
    encoder, _, _ = learn_table(read_table(path))
    frame = pd.read_csv(path, parse_dates=["d"])
    np.testing.assert_array_equal(
        encode_table(encoder, inputs_of(frame)), encode_table(encoder, read_table(path))
    )


@given(st.lists(st.tuples(TEXTS, st.integers(-99, 99), st.floats(-9, 9)), min_size=2, max_size=9))
@settings(max_examples=100, deadline=None)
def test_numbers_that_pandas_reads_are_those_that_are_read_without(rows):
    cells = [[str(cell).replace(",", "").replace('"', "") for cell in row] for row in rows]
    text = "a,b,c\n" + "".join(",".join(row) + "\n" for row in cells)
    quick, plain = (columns_of(text, "t.csv", ["a"], parse=parse) for parse in (True, False))
    tables = [table_of(columns.header, columns.columns) for columns in (quick, plain)]
    (kinds, values, notes), (same_kinds, same_values, same_notes) = map(read_columns, tables)
    assert (kinds, notes) == (same_kinds, same_notes)
    for one, other in zip(values, same_values, strict=True):
        if one.dtype.kind == "f":
            np.testing.assert_array_max_ulp(one, other, 1)  # pandas 2 rounds less carefully
        else:
            np.testing.assert_array_equal(one, other)
