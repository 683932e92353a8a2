"""Every training loop of the package is the one engine: the update is scanned in one place."""

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "fbp"
NO_TRAINING = {"autodiff", "nn", "show", "testing", "verify"}  # `show` is a lesson of bare steps
ONE = ("Problem", "Trial", "RangeTest", "TrainState", "Engine", "train_trials", "map_trials")


@functools.cache
def modules():
    paths = [(path.relative_to(PACKAGE), path) for path in PACKAGE.rglob("*.py")]
    return [
        (name.as_posix(), ast.parse(path.read_text()))
        for name, path in paths
        if name.parts[0] not in NO_TRAINING
    ]


def calls(tree, name):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (getattr(node.func, "attr", None) == name or getattr(node.func, "id", None) == name)
    ]


def named(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def definitions(name):
    return [
        module
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
    ]


def test_update_is_scanned_in_one_place():
    """A scan elsewhere is over microbatches, trials, or segments of a scan of updates."""
    others = {"train/microbatches.py", "train/trials.py", "sweep/parallelism.py"}
    scans = {module for module, tree in modules() if calls(tree, "scan")}
    assert scans == {"train/scan_steps.py", *others}
    assert definitions("scan_steps") == ["train/scan_steps.py"]
    callers = {module for module, tree in modules() if calls(tree, "scan_steps")}
    assert callers == {"train/engine.py", "train/loop.py"}


def test_engine_serves_the_sweep_the_fit_and_the_scripts():
    callers = {module for module, tree in modules() if calls(tree, "engine_of")}
    assert callers == {"sweep/study.py", "automl/program.py", "train/trials.py"}
    mapped = {module for module, tree in modules() if calls(tree, "map_trials")}
    assert mapped == {"sweep/parallelism.py", "automl/program.py", "train/trials.py"}


def test_optimizer_is_applied_in_one_place():
    assert {m for m, tree in modules() if calls(tree, "apply_updates")} == {"train/step.py"}
    assert definitions("make_update") == ["train/step.py"]
    makers = {module for module, tree in modules() if calls(tree, "make_update")}
    assert {module.split("/")[0] for module in makers} == {"train"}


def test_layers_are_recorded_by_one_update():
    """What `train` records and what a sweep records is one function, on the same scan."""
    assert definitions("recorded_update") == ["train/recorder.py"]
    users = {m for m, tree in modules() if "recorded_update" in named(tree)}
    assert users == {"train/loop.py", "sweep/study.py"}
    assert {m for m, tree in modules() if calls(tree, "layer_measures")} == {"train/recorder.py"}


def test_problem_trial_and_update_have_one_definition():
    for name in ONE:
        assert len(definitions(name)) == 1, name


def test_batch_size_is_checked_in_one_place():
    assert definitions("check_batch_size") == ["train/checks.py"]
    callers = {module for module, tree in modules() if calls(tree, "check_batch_size")}
    assert callers == {"train/checks.py", "train/trials.py"}
