"""Every reason for which a test is skipped is told in docs/limits.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPS = ("skip", "skipif", "importorskip")


def reason_of(call):
    """The text of a skip's reason; of an f-string, its constant parts."""
    (value,) = [k.value for k in call.keywords if k.arg == "reason"] or call.args[:1]
    parts = value.values if isinstance(value, ast.JoinedStr) else [value]
    return "".join(str(part.value) for part in parts if isinstance(part, ast.Constant)).strip()


def skips():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if named and node.func.attr in SKIPS and ast.unparse(node.func).startswith("pytest"):
                yield pytest.param(node, id=f"{path.relative_to(ROOT)}:{node.lineno}")


@pytest.mark.parametrize("call", [*skips()])
def test_the_reason_of_a_skip_is_told(call):
    is_import = call.func.attr == "importorskip"
    assert not is_import or any(keyword.arg == "reason" for keyword in call.keywords)
    assert reason_of(call) in (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
