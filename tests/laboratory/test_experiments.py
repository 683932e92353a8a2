"""Every experiment is complete; its quick run, as the command line runs it, lands in its band."""

import jax
import pytest

from fbp.cli import main
from fbp.laboratory.registry import experiment_names, get_experiment
from fbp.laboratory.runner import read_result

DAILY = ("quadratic",)


@pytest.fixture(autouse=True)
def standard_promotion():
    """Scripts and optax run as users run them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(
    "name",
    [n if n in DAILY else pytest.param(n, marks=pytest.mark.slow) for n in experiment_names()],
)
def test_quick_run_lands_in_its_band(name, tmp_path):
    assert main(["experiments", "run", name, "--quick", "--out", str(tmp_path)]) == 0
    result = read_result(tmp_path / name)
    assert result["checks"]
    assert result["passed"]
    assert list((tmp_path / name).glob("*.png"))


@pytest.mark.parametrize("name", experiment_names())
def test_an_experiment_is_complete(name):
    directory = get_experiment(name).directory
    assert get_experiment(name).question.endswith("?")
    assert get_experiment(name).settings() != get_experiment(name).settings(quick=True)
    for file in ("README.md", "config.toml", "result.json", "result.md", "figure.png"):
        assert (directory / file).exists(), file
    result = read_result(directory)
    assert result["command"].startswith(f"fbp experiments run {name}")
    assert "--quick" not in result["command"]


def test_the_overview_holds_every_question_and_number(capsys):
    overview = (get_experiment("quadratic").directory.parent / "README.md").read_text(
        encoding="utf-8"
    )
    main(["experiments", "table"])
    assert capsys.readouterr().out.strip() in overview
    assert all(
        f"[{name}]({name}/README.md) | {get_experiment(name).question}" in overview
        for name in experiment_names()
    )
