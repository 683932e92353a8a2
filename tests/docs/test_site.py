"""The site: every exported name has a page; a tutorial is shown with what it prints and draws."""

import importlib.util
import pkgutil
from pathlib import Path

import pytest

import fbp

BUILD = Path(__file__).parents[2] / "docs" / "site" / "build.py"
INTERNAL = {"fbp.autodiff", "fbp.commands", "fbp.automl"}  # what of them is public, fbp exports


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("docs_site_build", BUILD)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference(build, tmp_path_factory):
    """The pages of the reference, by module."""
    folder = tmp_path_factory.mktemp("site") / "api"
    build.write_reference(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def test_every_package_has_a_page(build):
    packages = {f"fbp.{m.name}" for m in pkgutil.iter_modules(fbp.__path__) if m.ispkg}
    assert packages - INTERNAL <= set(build.MODULES)


def test_every_exported_name_has_a_heading_on_a_page(build, reference):
    for name in build.MODULES:
        module = build.module_of(name)
        exported = [n for n in build.public_names(module) if f"{name}.{n}" not in build.MODULES]
        lacking = [n for n in exported if f"\n## {n}\n" not in reference[name]]
        modules = [n for n in lacking if f"fbp.{n}" in build.MODULES]
        assert (name, lacking) == (name, modules)
    assert set(fbp.__all__) >= {"grad", "fit", "FbpClassifier"}
    assert "\n## FbpClassifier\n" in reference["fbp"]


def test_a_name_is_shown_with_the_tutorials_that_use_it(reference):
    _, _, section = reference["fbp"].partition("\n## grad\n")
    used = section.split("\n## ")[0]
    assert "01_backpropagation_on_paper" in used


def test_what_a_cell_prints_and_returns_is_shown(build, tmp_path):
    pytest.importorskip("jupytext", reason="fbp-jax[docs] brings it")
    script = tmp_path / "01_script.py"
    script.write_text(
        '"""Title.\n\nText."""\n\nimport fbp\nprint("printed")\n\n# A table:\n\nfbp.RULES\n\n'
        "# No value:\n\nprint(2)\n"
    )
    title, first, _, table, _, last = build.executed(script).cells
    assert title.source.startswith("# Title\n")
    assert first.outputs[0].text == "printed\n"
    assert "<table>" in table.outputs[0].data["text/html"]
    assert [output.output_type for output in last.outputs] == ["stream"]
