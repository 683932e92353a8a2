"""A sweep of a network of each library, as docs/sweep-your-own.md shows it."""

import re
from pathlib import Path

import numpy as np
import pytest

import fbp.sweep
from fbp.records import read_records
from tests.support.clients import client

PAGE = Path(__file__).parents[2] / "docs" / "sweep-your-own.md"
LIBRARIES = {
    "A plain function": None,
    "Flax Linen": "flax.linen",
    "Flax nnx": "flax.nnx",
    "Equinox": "equinox",
    "Haiku": "haiku",
}
LINES = 15


def example(title):
    """The Python code below a title of the page."""
    section = PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)


@pytest.mark.parametrize("title", LIBRARIES)
def test_network_of_a_library_is_swept_in_fifteen_lines(title, tmp_path, monkeypatch):
    if LIBRARIES[title]:
        client(LIBRARIES[title])
    monkeypatch.chdir(tmp_path)
    code = example(title)
    assert len([line for line in code.splitlines() if line.strip()]) <= LINES
    names = {}
    exec(compile(example("The data"), str(PAGE), "exec"), names)
    exec(compile(code, str(PAGE), "exec"), names)
    summary = names["summary"]
    assert summary["best"]["learning_rate"] == 0.01
    assert summary["gradient_check"]["max_ulps"] < 64
    (directory,) = (tmp_path / "runs").iterdir()
    rows = read_records(directory)
    losses = {
        row["step"]: row["loss"] for row in rows if row["kind"] == "eval" and row["trial"] == 2
    }
    assert losses[60] < losses[0] / 2
    accuracies = [row["accuracy"] for row in rows if row["kind"] == "eval"]
    assert np.isfinite(accuracies).all()


def test_page_says_how_to_import_from_a_config(tmp_path, monkeypatch):
    """The module and the config of the page, as they stand."""
    client("flax.linen")
    section = PAGE.read_text().split("## From a config\n")[1]
    module = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    config = re.search(r"```toml\n(.*?)```", section, re.DOTALL).group(1)
    (tmp_path / "my_models.py").write_text(module)
    (tmp_path / "mine.toml").write_text(config)
    monkeypatch.chdir(tmp_path)
    summary = fbp.sweep.run("mine.toml", settings=["train.steps = 20"])
    assert {entry["network.width"] for entry in summary["rates"]} == {16, 64}
