"""What is parsed many cells at a time is what each cell holds, whatever is installed."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbp.data.cells import DATE_FORMATS, date_of
from fbp.data.dates import dates_of
from fbp.data.plain_cells import plain_floats
from fbp.data.rows import plain_rows, quoted_rows
from fbp.data.table_text import columns_of

WRITTEN = [
    *("1", "-2", "0", "-0", "+5", "007", "-07", "1.5", "-.5", "3.0", "1e3", "1E400", ""),
    *("nan", "NaN", "inf", "1_0", " 4", "5 ", "9007199254740993", "12345678901234567890"),
    *("0x10", "x", "TRUE", "False", "2024-01-02", "٣", "1 000", "'", "#1"),
]
COLUMNS = st.lists(st.lists(st.sampled_from(WRITTEN), max_size=3), min_size=2, max_size=4)


@pytest.fixture(params=["pandas", "NumPy"])
def parser(request, monkeypatch):
    if request.param == "NumPy":
        monkeypatch.setitem(sys.modules, "pandas", None)


def same(parsed, texts):
    """A column of numbers holds what Python reads in its cells; a column of text is the text."""
    if not isinstance(parsed, np.ndarray):
        return parsed == texts
    if any(text.lower() == "nan" for text in texts):
        return False
    numbers = [float(text) if text else np.nan for text in texts]
    whole = all(text.lstrip("+-").isdigit() for text in texts)
    return np.array_equal(parsed, numbers, equal_nan=True) and (parsed.dtype.kind == "i") == whole


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("rows", [1, 2, 70])
def test_a_column_of_numbers_is_what_python_reads_and_any_other_is_its_text(rows):
    @given(COLUMNS, st.sampled_from([",", ";", "\t"]))
    @settings(max_examples=60, deadline=None)
    def check(choices, separator):
        cells = [(choice or ["1"]) * rows for choice in choices]
        table = list(zip(*(column[:rows] for column in cells), strict=True))
        head = separator.join(f"n{i}" for i in range(len(cells)))
        text = "\n".join([head, *(separator.join(row) for row in table)]) + "\n"
        columns = columns_of(text, "t.csv", ["n0"], parse=True).columns
        for parsed, column in zip(columns, zip(*table, strict=True), strict=True):
            assert same(parsed, [cell.strip() for cell in column])

    check()


@pytest.mark.usefixtures("parser")
def test_codes_and_cells_that_are_missing_keep_their_text():
    text = "a,b,c,d\n007,1,1.5,x\n012,,,y\n"
    a, b, c, d = columns_of(text, "t.csv", parse=True).columns
    assert (a, b, d) == (["007", "012"], ["1", ""], ["x", "y"])
    np.testing.assert_array_equal(c, [1.5, np.nan])


def test_digits_that_a_float_loses_are_no_plain_numbers():
    assert plain_floats(["9007199254740993", "1"]) is None
    np.testing.assert_array_equal(plain_floats(["9007199254740991", "1"]), [9007199254740991, 1])


QUOTED = st.text(st.sampled_from('ab ,;"\n1é'), max_size=4)


@given(st.lists(st.tuples(QUOTED, QUOTED, st.just("z")), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_quoted_cells_are_what_csv_reads_with_the_lines_on_which_they_end(rows):
    quote = lambda cell: '"' + cell.replace('"', '""') + '"'
    text = "\n".join([",".join("abc"), *(",".join(map(quote, row)) for row in rows)])
    plain = plain_rows(text, 3, ",", ["a"], parse=False)
    slow = quoted_rows(text, 3, ",", ["a"], "t.csv")
    assert plain is not None
    assert plain.header == slow.header
    assert [list(map(str.strip, column)) for column in plain.columns] == [
        list(map(str.strip, column)) for column in slow.columns
    ]
    assert list(plain.lines) == list(slow.lines)


@pytest.mark.parametrize("row", ['a,5"', 'a"b"c,1', '"a"b,1', '"a', '"a" ,1'])
def test_quotes_that_are_not_around_cells_are_left_to_csv(row):
    assert plain_rows(f"x,y\n{row}\n1,2", 0, ",", ["x"], parse=False) is None


DAYS = st.datetimes().map(lambda day: day.replace(microsecond=0))


@given(st.lists(DAYS, min_size=1, max_size=4), st.sampled_from(DATE_FORMATS), st.booleans())
@settings(max_examples=200, deadline=None)
def test_dates_of_many_cells_are_those_of_each(days, form, spoiled):
    texts = [day.isoformat(" ") if form == "iso" else day.strftime(form) for day in days]
    texts += ["2023-02-30 00:00:00", "0000-01-01"] if spoiled else []
    alone = np.array([date_of(text, form) for text in texts], "datetime64[s]")
    np.testing.assert_array_equal(dates_of(texts, form), alone)
