"""A report of a thousand settings can be read."""

import csv
import io

import numpy as np
import pytest

from fbp.report.best_settings import MOST, settings_csv, shown_entries
from fbp.report.parallel_axes import axes_that_vary, score_by_setting
from fbp.report.run_figures import MOST_RATES, draw_run
from fbp.report.summary import summarize
from fbp.report.text import table_note
from fbp.report.trials import setting_of
from fbp.sweep import summary_table
from tests.support.synthetic_run import records

RATES = tuple(float(f"{rate:.4g}") for rate in np.geomspace(1e-4, 0.9, 100))


@pytest.fixture(scope="module")
def thousand():
    extra = [{"momentum": i / 10} for i in range(10)]
    rows = records(rates=RATES, seeds=1, extra=extra, steps=(10,))
    return rows, summarize(rows, "demo", "classification", "accuracy", None)


def test_table_has_the_best_and_a_file_has_all(thousand):
    _, summary = thousand
    assert len(summary["rates"]) == 1000
    shown = shown_entries(summary)
    assert len(shown) == MOST
    best = {entry["learning_rate"] for entry in shown}
    assert best == set(RATES[-2:])
    assert setting_of(summary["best"]) in map(setting_of, shown)
    assert "The best 20 of 1000 settings; all are in settings.csv." in table_note(summary)
    assert len(table_note(summary)) < 800
    rows = list(csv.DictReader(io.StringIO(settings_csv(summary))))
    assert len(rows) == 1000
    assert float(rows[7]["learning_rate"]) == summary["rates"][7]["learning_rate"]
    mean = summary["rates"][7]["validation_accuracy"]["mean"]
    assert float(rows[7]["validation_accuracy.mean"]) == mean


def test_terminal_shows_the_best_and_counts_the_rest(thousand):
    lines = summary_table(thousand[1]).splitlines()
    assert len(lines) == MOST + 2
    assert lines[-1] == "and 980 settings more, see summary.json"
    assert sum(line.startswith("*") for line in lines) == 1


@pytest.mark.parametrize("count", [MOST_RATES, MOST_RATES + 1, 100])
def test_many_rates_are_on_a_scale_of_colors_and_leave_the_panels_their_room(count):
    rows = records(rates=RATES[:count], seeds=1, steps=(10, 20))
    summary = summarize(rows, "demo", "classification", "accuracy", None)
    figure = draw_run(rows, summary)["loss_by_step"]
    figure.canvas.draw()
    assert bool(figure.legends) == (count <= MOST_RATES)
    height = sum(axes.get_position().height for axes in figure.axes[:2])
    assert height > 0.5


def test_cell_that_a_spreadsheet_would_run_is_text():
    rows = records(rates=(0.01,), seeds=1, extra=[{"data.name": "=cmd|' /C calc'!A0"}])
    summary = summarize(rows, "demo", "classification", "accuracy", None)
    (row,) = csv.DictReader(io.StringIO(settings_csv(summary)))
    assert row["data.name"].startswith("'=")


def lines_of(figure):
    """The lines of a figure as arrays, a collection for each kind."""
    return [np.array(c.get_segments()) for c in figure.axes[0].collections if c.get_paths()]


def test_settings_of_several_axes_are_lines_across_them(thousand):
    figure = draw_run(*thousand)["score_by_setting"]
    figure.draw_without_rendering()
    _, summary = thousand
    scored, best = lines_of(figure)
    assert scored.shape == (1000, 2, 2)
    rates = np.log(RATES)
    rate, momentum = summary["best"]["learning_rate"], summary["best"]["momentum"]
    height = (np.log(rate) - rates[0]) / (rates[-1] - rates[0])
    np.testing.assert_allclose(best[0], [[0, height], [1, momentum / 0.9]], atol=1e-6)
    assert (scored[-1, 0] == best[0, 0]).all()  # the best are on top
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [
        "learning_rate",
        "momentum",
    ]


def test_words_have_a_height_each_and_lost_settings_are_gray():
    extra = [{"schedule": s, "width": w} for s in ("wsd", "cosine", "linear") for w in (8, 16)]
    rows = records(rates=(0.01, 0.1, 2.0), seeds=1, extra=extra, steps=(10, 20))
    summary = summarize(rows, "demo", "classification", "accuracy", None)
    scales = axes_that_vary(summary)
    assert list(scales["schedule"].heights(["cosine", "linear", "wsd"])) == [0, 0.5, 1]
    lost, scored, _ = lines_of(score_by_setting(summary))
    assert (len(lost), len(scored)) == (6, 12)
    assert (lost[:, 0, 1] == 1).all()


def test_all_settings_lost_are_drawn():
    rows = records(rates=(2.0, 3.0), seeds=1, extra=[{"width": 8}, {"width": 16}], steps=(10, 20))
    summary = summarize(rows, "demo", "classification", "accuracy", None)
    (lost,) = lines_of(score_by_setting(summary))
    assert len(lost) == 4
