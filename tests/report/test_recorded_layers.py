"""The layers in a sweep's report: of the best setting, and of the lowest rate that diverged."""

import pytest

from fbp.recording import LAYERS
from fbp.report.recorded_layers import recorded_settings
from fbp.report.run_directory import read_run
from fbp.report.run_page import run_html, write_run_page
from tests.support import synthetic_run

RATES = (0.01, 0.1, 1.0, 10.0)


def layers(row):
    """Of a rate of 1 the second layer breaks, of a larger one the first."""
    broken = "1/w" if row["learning_rate"] == 1 else "0/w"
    lost = row["learning_rate"] >= 1 and row["step"] >= 20
    norms = {
        name: None if lost and name == broken else 0.1 + row["seed"] for name in ("0/w", "1/w")
    }
    return {"gradient_norm": norms, "zero_share": {"0/w": 0.0, "1/w": float(row["seed"] != 1)}}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    rows = synthetic_run.records(rates=RATES)
    seen = [row for row in rows if row["kind"] in ("train", "diverged")]
    keys = ("trial", "learning_rate", "seed", "step")
    rows += [{"kind": LAYERS, **{k: r[k] for k in keys}, LAYERS: layers(r)} for r in seen]
    return synthetic_run.write(tmp_path_factory.mktemp("run"), rows)


def test_settings_are_the_best_and_the_lowest_that_diverged(recorded):
    best, lost = recorded_settings(read_run(recorded))
    assert best.caption.startswith("Learning rate 0.1, the best, median over 3 seeds: ")
    assert lost.caption.startswith("Learning rate 1, trials that diverged, median over 3 seeds: ")
    assert best.recording.measures["gradient_norm"]["0/w"].tolist() == [1.1] * 3
    assert lost.recording.steps == (10, 20)


def test_page_shows_the_layers_and_names_those_that_go_wrong(recorded):
    page = write_run_page(recorded).read_text(encoding="utf-8")
    assert '<a href="#layers">Layer by layer</a>' in page
    assert page.count("<figcaption>Learning rate") == 2
    assert "<li>step 20: 1/w: no gradient arrives" in page
    figures = {path.stem for path in (recorded / "figures").iterdir()}
    assert {"layers_of_best", "layers_of_diverged"} <= figures


def test_gradient_that_is_not_finite_is_named_where_nothing_else_is(recorded):
    *_, lost = recorded_settings(read_run(recorded))
    healthy = {k: v for k, v in lost.recording.measures.items() if k == "gradient_norm"}
    object.__setattr__(lost.recording, "measures", healthy)
    assert lost.remarks == ["step 20: 1/w: its gradient is not finite"]


def test_page_of_a_run_that_is_not_recorded_has_no_such_section(tmp_path):
    run = read_run(synthetic_run.write(tmp_path))
    assert recorded_settings(run) == []
    assert "Layer by layer" not in run_html(run, {})
