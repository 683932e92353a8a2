"""What the documents show is true: code runs, links lead somewhere, commands exist."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def code_blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_code_of_the_readme_runs_as_one_session_and_prints_what_is_shown(capsys):
    namespace = {"__name__": "readme"}
    for block in code_blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), namespace)
        shown = re.findall(r"print\(.*\) +# ([-0-9.]+)$", block, flags=re.MULTILINE)
        printed = capsys.readouterr().out.splitlines()
        assert printed
        assert [line for line in shown if line not in printed] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_commands_of_the_documents_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"\bmake ([a-z-]+)  ", page.read_text())}
    assert named <= targets


def test_the_description_of_the_wheel_has_no_link_into_the_repository():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["readme"]
    described = project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join((ROOT / part["path"]).read_text("utf-8") for part in described["fragments"])
    for change in described["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert re.findall(r"\]\((?!https?:|#)[^)]+\)", text) == []
    assert [block in text for block in code_blocks(README, "python")] == [True] * 2
    assert len(text) > 0.8 * len(README)
