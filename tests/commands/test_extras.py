"""The core does without the extras; a command names the one that it lacks in one line."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fbp import cli
from fbp.extras import EXTRAS
from fbp.shipped import shipped_configs

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import fbp, fbp.nn, fbp.show, fbp.verify
from fbp.cli import main
print(fbp.grad(lambda x: x**2)(3.0))
for argv in {commands!r}:
    print(main(argv))
"""
COMMANDS = {
    "sweep": ["sweep", "configs/digits_mlp.toml"],
    "plan": ["plan", "digits_mlp"],
    "report": ["report", "--compare", "a", "b"],
    "fit": ["fit", "nowhere.csv"],
    "experiments": ["experiments", "run", "quadratic", "--quick"],
}


def test_core_works_without_the_extras_and_commands_name_the_one_they_lack():
    code = CORE.format(blocked=sorted(EXTRAS), commands=list(COMMANDS.values()))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["6.0", *["2"] * len(COMMANDS)]
    told = done.stderr.splitlines()
    assert len(told) == len(COMMANDS)
    for command, line in zip(COMMANDS, told, strict=True):
        assert line.startswith(f"fbp: fbp {command} takes ")
        assert line.endswith(f"pip install 'fbp-jax[{EXTRA_OF[command]}]'"), line


EXTRA_OF = {
    "sweep": "sweep",
    "plan": "sweep",
    "report": "report",
    "fit": "fit",
    "experiments": "experiments",
}


def imported_modules():
    for path in (ROOT / "fbp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield (node.module or "").split(".")[0], path


def test_every_library_is_of_the_core_or_of_an_extra():
    """Those that only readers of their own files take tell so themselves."""
    core = {"chex", "jax", "jaxlib", "jaxtyping", "numpy", "optax", "scipy", "tyro"}
    itself = {"hypothesis", "pandas", "pyarrow", "openpyxl", "tensorboardX", "polars"}
    beside = {"experiments", "fbp", "flax", "equinox", "haiku", "tensorflow", "torch", "libtpu"}
    known = core | itself | beside | set(EXTRAS) | set(sys.stdlib_module_names)
    assert {(name, str(path)) for name, path in imported_modules() if name not in known} == set()


@pytest.mark.parametrize(("module", "extra"), EXTRAS.items())
def test_extra_brings_its_module(module, extra):
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "tomli_w": "tomli-w", "orbax": "orbax-"}
    listed = PROJECT["optional-dependencies"]

    def brought(extra):
        for requirement in listed[extra]:
            if requirement.startswith("fbp-jax["):
                for other in requirement[8:-1].split(","):
                    yield from brought(other)
            else:
                yield requirement

    assert any(r.startswith(names.get(module, module)) for r in brought(extra))


def test_shipped_configs_are_listed_shown_and_copied(tmp_path, monkeypatch, capsys):
    assert cli.main(["configs"]) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == len(shipped_configs()) >= 9
    assert "13 learning rates x 5 seeds" in listed
    text = shipped_configs()["digits_mlp"].read_text()
    assert cli.main(["configs", "show", "digits_mlp"]) == 0
    assert capsys.readouterr().out.strip() == text.strip()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["configs", "copy", "digits_mlp", "--out", "mine"]) == 0
    assert (tmp_path / "mine" / "digits_mlp.toml").read_text() == text
    for argv in (
        ["configs", "copy", "digits_mlp", "--out", "mine"],
        ["configs", "show", "digitsmlp"],
        ["configs", "burn"],
    ):
        assert cli.main(argv) == 2
    assert "did you mean digits_mlp" in capsys.readouterr().err


def test_config_is_found_by_its_name_unless_a_file_is_called_so(tmp_path, monkeypatch):
    from fbp.config_file import load_config
    from fbp.shipped import config_path

    monkeypatch.chdir(tmp_path)
    assert load_config(Path("digits_mlp")).name == "digits_mlp"
    (tmp_path / "digits_mlp").write_text("name = 'other'")
    assert config_path(Path("digits_mlp")) == Path("digits_mlp")


def test_wheel_carries_the_configs():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"]["force-include"] == {"configs": "fbp/configs"}
