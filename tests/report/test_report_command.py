"""`fbp report`: which page a command line writes, and which it refuses."""

import pytest

from fbp.cli import main
from tests.support import synthetic_run


@pytest.fixture
def runs(tmp_path):
    return [str(synthetic_run.write(tmp_path / name)) for name in ("one", "two")]


def test_compare_writes_one_page_and_says_where(runs, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", "--compare", *runs, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"report: {out}\n"
    assert "one or two: which trains best?" in out.read_text(encoding="utf-8")


def test_the_comparison_lies_in_the_working_directory_if_nothing_is_said(
    runs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--compare", *runs]) == 0
    assert (tmp_path / "comparison.html").exists()


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        ([], 2, "2 runs: give one, or --compare"),
        (["--compare"], 1, "1 run to compare: give two directories or more"),
        (["--out", "page.html"], 1, "--out goes with --compare"),
        (["--compare", "--tensorboard", "x"], 2, "--tensorboard takes one run"),
    ],
)
def test_a_command_line_that_asks_for_no_page_is_refused(runs, options, count, message, capsys):
    assert main(["report", *runs[:count], *options]) == 2
    assert message in capsys.readouterr().err
