"""A command names the extra that it lacks, and trains nothing before."""

import sys

import pytest

from fbp import cli, extras


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("sweep", "cattrs.errors", "sweep"),
        ("sweep", "sklearn.datasets", "fit"),
        ("fit", "matplotlib", "fit"),
        ("predict", "cattrs", "fit"),
        ("report", "cattrs", "report"),
        ("experiments", "matplotlib", "experiments"),
    ],
)
def test_extra_is_the_one_that_brings_all_of_the_command(command, module, extra):
    said = extras.missing_extra(ModuleNotFoundError(name=module), command)
    package = module.split(".")[0]
    assert said == (
        f"fbp {command} takes {package}, which is not installed: pip install 'fbp-jax[{extra}]'"
    )


def test_module_of_no_extra_is_the_callers_affair():
    assert extras.missing_extra(ModuleNotFoundError(name="my_models"), "sweep") is None


def test_package_without_experiments_says_where_they_are(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    said = extras.missing_extra(ModuleNotFoundError(name="matplotlib"), "experiments")
    assert said == extras.NO_EXPERIMENTS


def test_fit_without_matplotlib_asks_for_its_own_extra(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    assert cli.main(["fit", str(tmp_path / "t.csv"), "--target", "y"]) == 2
    assert capsys.readouterr().err.endswith("pip install 'fbp-jax[fit]'\n")
