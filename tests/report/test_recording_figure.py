"""The heat map of a recording: a panel for each measure, and values that no scale can show."""

import math

import numpy as np
import pytest

from fbp.recording import recording_of
from fbp.report.recording_figure import draw_recording

ROWS = [
    {
        "gradient_norm": {"0/$w$": 10.0**-step, "1/w": math.nan if step == 2 else 0.0},
        "dead_units": {"relu": 0.1 * step},
    }
    for step in range(3)
]


def test_each_measure_has_a_panel_with_a_row_for_each_layer_and_a_column_for_each_step(tmp_path):
    figure = draw_recording(recording_of([5, 10, 15], ROWS))
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [panel.get_title(loc="left") for panel in panels] == ["dead units", "gradient norm"]
    meshes = [panel.collections[0].get_array() for panel in panels]
    assert [mesh.shape for mesh in meshes] == [(1, 3), (2, 3)]
    np.testing.assert_array_equal(np.ma.getmaskarray(meshes[1])[1], [True] * 3)
    assert [label.get_text() for label in panels[1].get_yticklabels()] == [r"0/\$w\$", "1/w"]
    figure.savefig(tmp_path / "recording.png")
    assert (tmp_path / "recording.png").stat().st_size > 1000


@pytest.mark.parametrize("steps", [[], [7]])
def test_few_steps_are_drawn(steps, tmp_path):
    draw_recording(recording_of(steps, ROWS[: len(steps)])).savefig(tmp_path / "recording.png")
