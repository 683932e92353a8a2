"""Figures: every one has labelled axes, and shows what was measured, no more and no less."""

import numpy as np
import pytest

from fbp.report.run_figures import draw_run
from fbp.report.summary import summarize
from tests.support import synthetic_run


def figures(rows, *, task="classification", metric="accuracy", target=0.7):
    return draw_run(rows, summarize(rows, "made", task, metric, target))


def labels(figure):
    axes = [text for a in figure.axes for text in a.get_legend_handles_labels()[1]]
    return axes + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


CASES = {
    "a sweep": ({}, {}),
    "regression": ({"score": "r2"}, {"task": "regression", "metric": "r2"}),
    "compared by loss": ({}, {"metric": "loss", "target": 1.0}),
    "one rate, one seed": ({"rates": [0.1], "seeds": 1}, {}),
    "all diverged": ({"rates": [1.0, 2.0], "steps": (20,)}, {}),
    "two settings": ({"extra": ({"momentum": 0.0}, {"momentum": 0.9})}, {}),
    "settings that are words": ({"extra": ({"schedule": "constant"}, {"schedule": "cosine"})}, {}),
    "random search": ({"extra": [{"momentum": m / 20} for m in range(20)], "rates": [0.1]}, {}),
    "no target": ({}, {"target": None}),
}


@pytest.mark.parametrize(("written", "options"), CASES.values(), ids=CASES)
def test_every_axis_has_a_label(written, options):
    drawn = figures(synthetic_run.records(**written), **options)
    assert len(drawn) == 4
    for figure in drawn.values():
        figure.draw_without_rendering()
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[-1].get_xlabel()


def test_a_run_with_training_rows_alone_is_drawn():
    rows = [row for row in synthetic_run.records(rates=[0.01, 0.1]) if row["kind"] == "train"]
    for figure in figures(rows).values():
        figure.draw_without_rendering()


def test_the_best_rate_is_marked_and_an_edge_is_named():
    assert "best rate 0.1" in labels(figures(synthetic_run.records())["loss_by_rate"])
    edge = figures(synthetic_run.records(rates=[0.001, 0.01]))["accuracy_by_rate"]
    assert "best rate 0.01 (edge of the grid)" in labels(edge)


def test_a_score_that_is_nan_in_every_trial_is_drawn_without_a_mark():
    rows = synthetic_run.records()
    for row in rows:
        row.update({"accuracy": None} if "accuracy" in row else {})
    drawn = figures(rows, metric="loss", target=None)
    (mark,) = [x for x in drawn["accuracy_by_rate"].axes[0].lines if x.get_marker() == "*"]
    assert np.isnan(mark.get_ydata()).all()


def test_the_target_is_drawn_where_it_belongs():
    drawn = figures(synthetic_run.records())
    assert "target" in labels(drawn["accuracy_by_rate"])
    assert "target" not in labels(drawn["loss_by_rate"])


def test_rates_are_told_apart_by_marker_as_well_as_by_color():
    rates = np.geomspace(1e-4, 0.5, 12)
    panel = figures(synthetic_run.records(rates=rates))["loss_by_step"].axes[0]
    lines = [line for line in panel.lines if not line.get_label().startswith("_")]
    assert len({line.get_marker() for line in lines}) == 12
    assert len({line.get_color() for line in lines}) == 12


def test_rates_of_which_every_trial_diverged_are_marked():
    drawn = figures(synthetic_run.records())
    assert "all trials diverged" in labels(drawn["accuracy_by_rate"])
    assert "all trials diverged" not in labels(
        figures(synthetic_run.records(rates=[0.01]))["loss_by_rate"]
    )


def test_the_share_of_diverged_trials_is_written_at_each_rate():
    (axes,) = figures(synthetic_run.records())["diverged_by_rate"].axes
    assert [text.get_text() for text in axes.texts] == ["0/3", "0/3", "0/3", "3/3"]


def test_curves_show_the_best_setting_of_the_other_hyperparameters():
    rows = synthetic_run.records(rates=[0.01], extra=({"momentum": 0.0}, {"momentum": 0.9}))
    for row in rows:
        if row["momentum"] == 0.9 and "accuracy" in row:
            row["accuracy"] += 0.1
    losses = [row["loss"] for row in rows if row["momentum"] == 0.9 and row["kind"] == "train"]
    line = figures(rows)["loss_by_step"].axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), np.median(np.reshape(losses, (3, 3)), axis=0))


def test_losses_far_above_the_start_are_cut_off():
    rows = synthetic_run.records(rates=[0.001, 0.01, 0.1, 0.5])
    for row in rows:
        if row["learning_rate"] == 0.5 and row["step"] > 10:
            row["loss"] *= 1e30
    for panel in figures(rows)["loss_by_step"].axes:
        assert panel.get_ylim()[1] < 100
