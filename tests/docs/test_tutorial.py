"""The tutorial's scripts run, and what they assert holds. `make docs` runs each of them too, for
the site, so that they are slow tests here."""

import runpy
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "docs" / "tutorial").glob("[0-9]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_runs_and_prints_its_numbers(script, capsys):
    runpy.run_path(str(script))
    assert capsys.readouterr().out


def test_scripts_are_numbered_from_one_in_reading_order():
    assert [int(script.name[:2]) for script in SCRIPTS] == [*range(1, len(SCRIPTS) + 1)]


def test_every_script_is_in_the_index():
    index = (Path(__file__).parents[2] / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(script.name in index for script in SCRIPTS)
