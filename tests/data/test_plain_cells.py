"""What is parsed many cells at a time is what each cell holds, whatever is installed."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbp.data.plain_cells import plain_floats
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
