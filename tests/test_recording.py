"""Recordings as data: read from rows, and the median of several."""

import numpy as np

from fbp.recording import LAYERS, Recording, median_recording, recording_of, recordings
from fbp.records import append_records, read_records, table

ROW = {"kind": LAYERS, "trial": 2, "learning_rate": 0.1, "seed": 0}


def recording(*norms):
    steps = range(1, len(norms) + 1)
    return recording_of(steps, [{"gradient_norm": {"w": norm}} for norm in norms])


def norms(of):
    return of.measures["gradient_norm"]["w"].tolist()


def test_rows_are_read_by_trial_and_what_is_not_finite_stays_so(tmp_path):
    values = (0.1, float("nan"), float("inf"))
    rows = [
        {**ROW, "step": step, LAYERS: {"gradient_norm": {"w": value}}}
        for step, value in enumerate(values)
    ]
    append_records(tmp_path, [{**ROW, "kind": "train", "step": 1, "loss": 1.0}, *rows])
    (one,) = recordings(read_records(tmp_path)).values()
    assert one.steps == (0, 1, 2)
    np.testing.assert_array_equal(norms(one), [0.1, np.nan, np.nan])
    assert one.first_nonfinite == (1, "w")


def test_the_table_has_the_other_rows_alone(tmp_path):
    rows = [{**ROW, "kind": "train", "step": 1, "loss": 1.0}]
    append_records(tmp_path, [*rows, {**ROW, "step": 1, LAYERS: {"gradient_norm": {"w": 1.0}}}])
    frame = table(tmp_path)
    assert frame.shape[0] == 1
    assert LAYERS not in frame.columns


def test_median_is_of_the_recordings_that_last_until_then():
    """What is not finite is larger than any number; where fewer than half last, it ends."""
    alike = [recording(1.0, 8.0, 1.0), recording(3.0, np.nan), recording(2.0, 4.0, 5.0, 6.0)]
    of_three = median_recording(alike)
    assert of_three.steps == (1, 2, 3)
    assert norms(of_three) == [2.0, 8.0, 3.0]
    assert np.isnan(norms(median_recording([alike[1], alike[1], alike[2]]))[1])


def test_median_of_nothing_is_empty():
    assert median_recording([]) == Recording((), {})
