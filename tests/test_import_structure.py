"""Which module imports which: no circles, and no package a package above it."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "fbp").rglob("*.py")
}
LAYERS = (
    *(
        "errors",
        "hosts",
        "user_cache",
        "compilation_cache",
        "shipped",
        "extras",
        "flops",
        "compile_options",
    ),
    *("byte_size", "notebook", "optimizers", "structure", "config", "config_file", "recording"),
    *(
        "records",
        "checkpoints",
        "autodiff",
        "nn",
        "data",
        "report",
        "verify",
        "gallery",
        "testing",
        "train",
    ),
    *("automl", "sweep", "plan", "show", "laboratory", "commands", "cli", "__main__"),
)
"""From below to above: each imports from those before it, inside of functions too. What stands in
`fbp/__init__.py` is the front of all of them, and not in this order."""

EXCEPTIONS = {
    ("fbp.commands.completion", "fbp.cli"): "a shell completes all commands, this one among them",
    ("fbp.verify.report", "fbp.verify.page"): "a method of what is reported draws it",
}
"""Imports inside of a function that lead back to what imports the module, and why."""


def imports(node: ast.AST) -> Iterator[str]:
    """Names that a module imports when it runs, at its top or inside of a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom):
            for alias in child.names:
                name = f"{child.module}.{alias.name}"
                yield name if name in MODULES else child.module or ""
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imports(child)


GRAPH = {
    module: {name for name in imports(ast.parse(path.read_text())) if name in MODULES} - {module}
    for module, path in MODULES.items()
}


def test_no_module_imports_itself_by_way_of_others():
    graph = {m: {n for n in named if (m, n) not in EXCEPTIONS} for m, named in GRAPH.items()}
    order = tuple(TopologicalSorter(graph).static_order())  # CycleError names the circle
    assert set(order) == set(MODULES)


@pytest.mark.parametrize(("module", "name"), sorted(EXCEPTIONS))
def test_each_exception_is_one(module, name):
    assert name in GRAPH[module]


def test_every_package_imports_from_those_below_it_alone():
    part = lambda module: module.split(".")[1]
    arrows = {
        (part(module), part(name))
        for module, named in GRAPH.items()
        for name in named
        if "fbp" not in (module, name) and (module, name) not in EXCEPTIONS
        if part(module) != part(name)
    }
    assert {package for arrow in arrows for package in arrow} <= set(LAYERS)
    upward = [arrow for arrow in arrows if LAYERS.index(arrow[0]) < LAYERS.index(arrow[1])]
    assert upward == []


def test_every_package_has_its_layer():
    assert {module.split(".")[1] for module in MODULES if module != "fbp"} <= set(LAYERS)


def test_nothing_in_the_package_imports_the_experiments():
    for path in MODULES.values():
        nodes = ast.walk(ast.parse(path.read_text()))
        named = [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        assert not [name for name in named if name.split(".")[0] == "experiments"], path


@pytest.mark.parametrize("package", ["fbp", "fbp.automl", "fbp.report", "fbp.sweep", "fbp.train"])
def test_no_function_hides_a_module_of_its_name(package):
    """`fbp.fit` and `fbp.sweep.run` are functions, and no package or module."""
    names = set(bound(ast.parse(MODULES[package].read_text())))
    assert names
    assert not {name for name in names if f"{package}.{name}" in MODULES}


def bound(tree: ast.Module) -> Iterator[str]:
    """Names that a module binds at its top to what is no module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom):
            yield from (
                alias.asname or alias.name
                for alias in node.names
                if f"{node.module}.{alias.name}" not in MODULES
            )
