"""The page: it stands alone, opens with the verdict, and says what the reader must know."""

import base64
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from fbp import report
from fbp.errors import InputError
from fbp.report.run_directory import read_run
from fbp.report.run_page import run_html
from tests.support import synthetic_run

PNG = b"\x89PNG\r\n\x1a\n"


def page(run):
    return report.write_report(run).read_text(encoding="utf-8")


def text_of(run):
    """What the page of a run says, without its pictures, which take time to draw."""
    return visible(run_html(read_run(run), {}))


def visible(content):
    """The text of a page, without its style and its pictures."""
    chunks = []

    class Text(HTMLParser):
        def handle_data(self, data):
            if self.lasttag != "style":
                chunks.append(data)

    Text().feed(content)
    return re.sub(r"\s+", " ", " ".join(chunks))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run with its page."""
    run = synthetic_run.write(tmp_path_factory.mktemp("run"))
    return run, page(run)


def test_the_page_needs_no_other_file_and_no_network(written):
    _, content = written
    assert set(re.findall(r'(?:src|href)="(?!#)([a-z]*:?)', content)) == {"data:"}
    assert not any(word in content for word in ("<script", "<link", "@import", "url("))


def test_pictures_lie_beside_the_page_and_within_it(written):
    run, content = written
    inlined = re.findall(r'src="data:image/png;base64,([^"]+)"', content)
    pictures = sorted(path.read_bytes() for path in (run / "figures").iterdir())
    assert sorted(base64.b64decode(text) for text in inlined) == pictures
    assert len(pictures) == 4
    assert all(picture.startswith(PNG) for picture in pictures)


def test_every_picture_has_a_caption_and_an_alternative_text(written):
    _, content = written
    assert content.count("<figcaption>") == 4
    assert len(re.findall(r'<img alt="[^"]{40,}"', content)) == 4


def test_writing_again_gives_the_same_page(written):
    run, content = written
    assert page(run) == content


def test_the_page_opens_with_the_verdict(tmp_path):
    text = text_of(synthetic_run.write(tmp_path))
    assert "Learning rate 0.1 trained best: validation accuracy 79.6% [79.2, 80.0], test " in text
    assert "test accuracy 74.6%" in text
    assert "at most 1.5 ULPs (leaf ['dense']['w'])" in text
    assert text.index("trained best") < text.index("Every rate")


def test_equal_gradients_are_called_equal(tmp_path):
    run = read_run(synthetic_run.write(tmp_path))
    check = {"gradient_check": {"max_ulps": 0.0, "leaf": "w"}}
    text = visible(run_html(replace(run, summary={**run.summary, **check}), {}))
    assert "gradients that fbp made equal those of jax.grad exactly" in text


def test_the_table_has_a_row_for_every_rate_and_marks_the_best(tmp_path):
    content = run_html(read_run(synthetic_run.write(tmp_path)), {})
    rows = re.findall(r"<tr(?: class=\"best\")?><th scope=\"row\">", content)
    assert len(rows) == len(synthetic_run.RATES)
    (best,) = re.findall(r'<tr class="best">.*?</tr>', content)
    assert visible(best).split()[:2] == ["0.1", "best"]


def test_config_environment_and_cost_are_shown_escaped(tmp_path):
    content = run_html(read_run(synthetic_run.write(tmp_path)), {})
    assert "made <run>" not in content
    text = visible(content)
    assert 'name = "made <run>"' in text
    assert "fbp sweep 'my config.toml'" in text
    assert "versions.jax 0.10.2" in text
    assert "12.3 s" in text
    assert "5,120 trial-steps per second" in text


def test_an_interrupted_run_says_so(tmp_path):
    run = synthetic_run.write(tmp_path, synthetic_run.records(steps=(10,)), complete=False)
    text = text_of(run)
    assert "This run was interrupted: the page shows what was measured until step 10" in text
    assert "test accuracy" not in text


def test_a_run_with_training_rows_alone_is_reported(tmp_path):
    rows = [row for row in synthetic_run.records(rates=[0.01, 0.1]) if row["kind"] == "train"]
    text = text_of(synthetic_run.write(tmp_path, rows, complete=False))
    assert "nothing was measured on the validation set yet" in text


def test_a_run_that_diverged_everywhere_says_so(tmp_path):
    text = text_of(synthetic_run.write(tmp_path, synthetic_run.records(rates=[1.0, 2.0])))
    assert "No rate trained the network: every trial diverged." in text


@pytest.mark.parametrize(
    ("rates", "side"), [([0.001, 0.01], "above 0.01"), ([0.1, 1.0], "below 0.1")]
)
def test_a_best_rate_at_the_edge_is_a_warning(tmp_path, rates, side):
    text = text_of(synthetic_run.write(tmp_path, synthetic_run.records(rates=rates)))
    assert f"edge of the grid: a better one may lie {side}. Extend the grid" in text


def test_one_seed_is_a_warning(tmp_path):
    text = text_of(synthetic_run.write(tmp_path, synthetic_run.records(seeds=1)))
    assert "Each rate was trained with one seed" in text


def test_no_warning_where_none_is_due(tmp_path):
    assert 'class="warning"' not in run_html(read_run(synthetic_run.write(tmp_path)), {})


def test_a_regression_speaks_of_r2(tmp_path):
    rows = synthetic_run.records(score="r2")
    run = synthetic_run.write(tmp_path, rows, task="regression", metric="r2")
    text = visible(page(run))
    assert "validation r² 0.796" in text
    assert "accuracy" not in text
    assert (tmp_path / "figures" / "r2_by_rate.png").exists()


def test_other_hyperparameters_are_columns_and_part_of_the_verdict(tmp_path):
    rows = synthetic_run.records(extra=({"momentum": 0.0}, {"momentum": 0.9}))
    content = page(synthetic_run.write(tmp_path, rows))
    assert '<th scope="col">momentum</th>' in content
    assert "Learning rate 0.1 (momentum 0) trained best" in content
    assert "Of the other hyperparameters: momentum 0." in content


def test_rates_that_the_best_does_not_clearly_beat_are_named(tmp_path):
    rows = synthetic_run.records(rates=[0.01, 0.1, 0.101, 1.0])
    text = text_of(synthetic_run.write(tmp_path, rows))
    assert "Intervals that overlap the best one's: 0.1." in text


def test_how_surely_the_best_beats_the_runner_up_is_part_of_the_verdict(tmp_path):
    text = text_of(synthetic_run.write(tmp_path))
    assert "A trial of it beats one of the runner-up, 0.01, with probability 100.0%" in text


def test_the_share_of_diverged_trials_is_named(tmp_path):
    text = text_of(synthetic_run.write(tmp_path))
    assert "3 of the 12 trials diverged (25.0%)." in text


@pytest.mark.parametrize(("seeds", "shown"), [(3, False), (4, True)])
def test_the_interquartile_mean_is_shown_from_four_seeds_on(tmp_path, seeds, shown):
    text = text_of(synthetic_run.write(tmp_path, synthetic_run.records(seeds=seeds)))
    assert ("interquartile mean" in text) is shown


def test_settings_that_are_words_are_shown(tmp_path):
    rows = synthetic_run.records(extra=({"optimizer": "adam"}, {"optimizer": "sgd"}))
    content = run_html(read_run(synthetic_run.write(tmp_path, rows)), {})
    assert '<th scope="col">optimizer</th>' in content
    assert "Learning rate 0.1 (optimizer adam) trained best" in content


def test_settings_that_were_stopped_early_are_told_apart(tmp_path):
    rows = synthetic_run.records()
    stopped = [row for row in rows if row["learning_rate"] != 0.001 or row["step"] <= 10]
    assert '<th scope="col">steps</th>' not in run_html(
        read_run(synthetic_run.write(tmp_path, rows)), {}
    )
    text = text_of(synthetic_run.write(tmp_path, stopped))
    assert "Settings with fewer steps were stopped early" in text


def test_a_directory_that_cannot_be_written_is_named_and_nothing_is_lost(tmp_path):
    run = synthetic_run.write(tmp_path)
    (run / "figures").write_text("a file where the directory should be")
    before = (run / "records.jsonl").read_bytes()
    with pytest.raises(InputError, match="the report cannot be written"):
        report.write_report(run)
    assert (run / "records.jsonl").read_bytes() == before


def test_a_full_disk_is_named(tmp_path):
    run = synthetic_run.write(tmp_path)
    (run / "report.html").symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left on device"):
        report.write_report(run)


def test_a_missing_matplotlib_is_named(tmp_path, monkeypatch):
    for name in ("run_page", "run_figures", "drawing"):
        monkeypatch.delitem(sys.modules, f"fbp.report.{name}")
        monkeypatch.delattr(report, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'fbp-jax\[report\]'"):
        report.write_report(synthetic_run.write(tmp_path))
