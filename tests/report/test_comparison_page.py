"""The comparison's page: it stands alone and opens with the verdict."""

import re

import pytest
from test_comparison import SYNTHETIC, run
from test_run_page import visible

from fbp import report
from fbp.errors import InputError
from fbp.report.comparison import contestants
from fbp.report.comparison_figures import draw_comparison
from fbp.report.comparison_page import comparison_html, comparison_verdict
from tests.support import synthetic_run


def text_of(paths):
    return visible(comparison_html(contestants(paths), {}))


def test_the_page_stands_alone_and_opens_with_the_verdict(tmp_path):
    out = tmp_path / "new" / "page.html"
    paths = [run(tmp_path, "sgd", seeds=8), run(tmp_path, "adam", gain=0.1, seeds=8)]
    assert report.compare(paths, out) == out
    content = out.read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="(?!#)([a-z]*:?)', content)) == {"data:"}
    assert content.count("<figcaption>") == 2
    text = visible(content)
    assert text.index("adam trained best, with learning rate 0.1") < text.index("Every run")
    assert "adam beats sgd on test accuracy (p = 0.031, 7 seeds, paired)" in text


def test_runs_that_cannot_be_told_apart_are_not_told_apart(tmp_path):
    assert "cannot be told apart" in comparison_verdict(
        contestants([run(tmp_path, "sgd"), run(tmp_path, "adam")])
    )


def test_one_seed_tells_nothing_apart(tmp_path):
    paths = [run(tmp_path, "sgd", seeds=1), run(tmp_path, "adam", gain=0.1, seeds=1)]
    assert "cannot be told apart" in comparison_verdict(contestants(paths))


def test_the_table_shows_test_scores_diverged_shares_and_steps_to_the_target(tmp_path):
    text = text_of([run(tmp_path, "sgd"), run(tmp_path, "adam", gain=0.1)])
    assert "test accuracy" in text
    assert "25.0% 3 of 12" in text
    assert "median steps to 70.0%" in text
    assert "3 of 3 arrive" in text
    assert "5,120 trial-steps/s" in text


def test_what_differs_between_the_configs_is_listed(tmp_path):
    text = text_of([run(tmp_path, "sgd"), run(tmp_path, "adam")])
    assert 'optimizer.name "sgd" "adam"' in text
    same = [
        run(tmp_path, name, config=SYNTHETIC.replace("{name}", "same")) for name in ("one", "two")
    ]
    assert "nothing but the name" in text_of(same)


def test_a_run_that_diverged_everywhere_is_in_the_table_and_not_in_the_pictures(tmp_path):
    compared = contestants([run(tmp_path, "lost", rates=[1.0, 2.0]), run(tmp_path, "won")])
    assert "No other run trained the network." in comparison_verdict(compared)
    assert "lost – every trial diverged" in visible(comparison_html(compared, {}))
    compared = contestants([run(tmp_path, n, rates=[1.0, 2.0]) for n in ("lost", "gone")])
    assert "No run trained the network" in comparison_verdict(compared)
    report.compare([tmp_path / "lost", tmp_path / "gone"], tmp_path / "page.html")


def test_an_interrupted_run_is_named(tmp_path):
    paths = [run(tmp_path, "sgd"), run(tmp_path, "adam")]
    (paths[0] / "summary.json").unlink()
    assert "sgd: This run was interrupted" in text_of(paths)


@pytest.mark.parametrize(
    ("task", "metric"), [("classification", "loss"), ("regression", "r2"), ("regression", "loss")]
)
def test_every_metric_is_drawn_with_labels_on_its_axes(tmp_path, task, metric):
    rows = synthetic_run.records(score="r2" if task == "regression" else "accuracy")
    paths = [
        synthetic_run.write(tmp_path / name, rows, task=task, metric=metric)
        for name in ("one", "two")
    ]
    for figure in draw_comparison(contestants(paths)).values():
        figure.draw_without_rendering()
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[-1].get_xlabel()
    name = {"loss": "validation loss", "r2": "validation r²"}[metric]
    assert name in text_of(paths)


def test_every_run_is_in_both_pictures(tmp_path):
    compared = contestants([run(tmp_path, name) for name in ("sgd", "adam", "lion")])
    for figure in draw_comparison(compared).values():
        texts = " ".join(text.get_text() for legend in figure.legends for text in legend.texts)
        assert all(name in texts for name in ("sgd", "adam", "lion"))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    paths = [run(tmp_path, "sgd"), run(tmp_path, "adam")]
    with pytest.raises(InputError, match=r"page\.html: cannot be written"):
        report.compare(paths, paths[0] / "config.toml" / "page.html")


def test_accuracies_are_shown_from_0_to_100_and_enlarged(tmp_path):
    figure = draw_comparison(contestants([run(tmp_path, name) for name in ("sgd", "adam")]))[
        "score_by_rate"
    ]
    complete, enlarged = (axes.get_ylim() for axes in figure.axes)
    assert complete == (0.0, 1.02)
    assert enlarged[0] < 0.796 < enlarged[1] < enlarged[0] + 0.2
