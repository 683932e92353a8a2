"""The law of rows: what is predicted of many rows is what is predicted of each of them alone."""

import csv

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fbp
from fbp.automl.encode import encode, learn_encoder
from fbp.automl.sources import read_labeled, read_unlabeled
from fbp.cli import main

NAMES = ["number", "word", "price", "share", "day"]
TEXTS = st.sampled_from(
    [
        *("", "1", "250.0", "007", "1234567", "1,234", "3.0M", "NA", "None", "x", "red", "RED"),
        *("1e400", "inf", "nan", "1_0", "$5", "12 kg", "2024-01-02", "-", "(3)", "true", "1;2"),
        *(" 7 ", "٣", '"', "a\nb", "#1", "=1+1", "0,5", "2024-01-02 10:00", "<NA>", "🙂", "שלום"),
    ]
)
NUMBERS = st.one_of(st.floats(allow_nan=True, allow_infinity=False), st.integers(-9, 300))
CELLS = st.one_of(TEXTS, NUMBERS, st.none(), st.booleans())


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    number = rng.normal(size=60)
    frame = pd.DataFrame(
        {
            "number": number,
            "word": ["red", "250", "007", "true"] * 15,
            "price": [f"${1000 + i:,}" for i in range(60)],
            "share": [f"{i},5" for i in range(60)],
            "day": [f"2024-0{1 + i % 9}-01" for i in range(60)],
        }
    )
    return fbp.fit(frame, np.where(number > 0, "high", "low"), target_name="level")


def test_many_rows_are_predicted_as_each_alone(model):
    @given(st.lists(st.tuples(*[CELLS] * len(NAMES)), min_size=2, max_size=6))
    @settings(max_examples=30, deadline=None)
    def check(rows):
        frame = pd.DataFrame({n: [row[i] for row in rows] for i, n in enumerate(NAMES)})
        alone = [pd.DataFrame({n: [c] for n, c in zip(NAMES, row, strict=True)}) for row in rows]
        together = model.predict_proba(frame)
        np.testing.assert_array_equal(
            together, np.concatenate([model.predict_proba(row) for row in alone])
        )
        assert np.isfinite(together).all()
        assert model.predict(frame).tolist() == [model.predict(row)[0] for row in alone]

    check()


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("rows")
    model.save(directory / "model.npz")
    return directory


def predicted(run, rows):
    """The predictions of `fbp predict` for a file of these rows, without their numbers."""
    with (run / "new.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([NAMES, *rows])
    out = run / "p.csv"
    assert main(["predict", str(run), str(run / "new.csv"), "--out", str(out), "--overwrite"]) == 0
    with out.open(newline="", encoding="utf-8") as file:
        return [row[1:] for row in csv.reader(file)][1:]


def test_a_file_is_predicted_as_each_of_its_rows_alone(run):
    @given(st.lists(st.tuples(*[CELLS] * len(NAMES)), min_size=2, max_size=4))
    @settings(max_examples=12, deadline=None)
    def check(rows):
        alone = [predicted(run, [row]) for row in rows]
        assert predicted(run, rows) == [prediction for (prediction,) in alone]

    check()


def test_a_file_is_predicted_as_its_data_frame(run, model):
    rows = [(0.5, "red", "$1,234", "3,5", "2024-02-01"), (-0.5, "007", "$9", "1,0", "2024-03-01")]
    frame = pd.DataFrame(rows, columns=NAMES)
    assert [row[0] for row in predicted(run, rows)] == model.predict(frame).tolist()


@pytest.mark.parametrize("target", [1, 2, 3])
def test_a_file_without_a_header_is_predicted_row_by_row_with_and_without_its_target(
    tmp_path, target
):
    rows = [[f"{(i * 7) % 11}.5", f"{(i * 5) % 13}.25"] for i in range(40)]
    labels = ["high" if float(row[0]) > 5 else "low" for row in rows]
    full = [[*r[: target - 1], y, *r[target - 1 :]] for r, y in zip(rows, labels, strict=True)]
    (tmp_path / "t.csv").write_text("".join(",".join(row) + "\n" for row in full))
    name = f"column {target}"
    labeled = read_labeled(tmp_path / "t.csv", name)
    encoder, _, features = learn_encoder(labeled.x)
    assert len(features) == 40
    for number, row in enumerate(full[:3]):
        for cells in (row, [cell for i, cell in enumerate(row) if i != target - 1]):
            (tmp_path / "new.csv").write_text(",".join(cells) + "\n")
            alone = read_unlabeled(tmp_path / "new.csv", encoder, name)
            np.testing.assert_array_equal(encode(encoder, alone.x), features[[number]])
