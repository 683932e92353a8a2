"""Every training loop of the package is the one engine: the update is scanned in one place."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "fbp"
NO_TRAINING = {"autodiff", "nn", "show", "testing", "verify"}  # `show` is a lesson of bare steps
CALLERS = {
    "train/loop.py",
    "train/engine.py",
    "sweep/program.py",
    "fit/program.py",
}


def modules():
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in NO_TRAINING:
            yield name.as_posix(), ast.parse(path.read_text())


def calls(tree, name):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) == name or getattr(node.func, "id", None) == name)
    ]


def definitions(name):
    return [
        module
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
    ]


def test_update_is_scanned_in_one_place():
    """A scan elsewhere is over microbatches, or over segments of a scan of updates."""
    scans = {module for module, tree in modules() if calls(tree, "scan")}
    assert scans == {"train/scan_steps.py", "train/microbatches.py", "train/trials.py"}
    assert definitions("scan_steps") == ["train/scan_steps.py"]
    assert {module for module, tree in modules() if calls(tree, "scan_steps")} == CALLERS


def test_optimizer_is_applied_in_one_place():
    assert {m for m, tree in modules() if calls(tree, "apply_updates")} == {"train/step.py"}
    assert definitions("make_update") == ["train/step.py"]


def test_problem_trial_and_update_have_one_definition_outside_fit():
    for name in ("Problem", "Trial", "RangeTest", "TrainState", "Engine"):
        found = [module for module in definitions(name) if not module.startswith("fit/")]
        assert len(found) == 1, found
