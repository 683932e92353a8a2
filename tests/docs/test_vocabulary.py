"""The words of the package, as `python tools/house.py` measures them."""

import ast
from pathlib import Path

import pytest

from tools import house

ROOT = Path(__file__).parents[2]
TREES = {path.relative_to(ROOT): tree for path, tree in house.modules(ROOT / "fbp").items()}


@pytest.mark.parametrize("is_foreign", [house.is_private_word, house.is_british])
def test_names_are_words_of_the_field_in_american_spelling(is_foreign):
    names = [
        f"{path}:{line} {name}"
        for path, tree in TREES.items()
        for name, line in house.bound_names(tree)
        if is_foreign(name)
    ]
    assert names == []


def test_exported_names_have_the_sections_of_a_docstring():
    absent = {
        f"{path} {name}": house.missing_sections(node) for name, path, node in house.exported(TREES)
    }
    assert {name: sections for name, sections in absent.items() if sections} == {}
    assert len(absent) > 50


def test_no_body_is_longer_than_a_screen():
    assert [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in TREES.items()
        for node in house.definitions(tree)
        if isinstance(node, house.Function) and house.body_length(node) > house.LONG_BODY
    ] == []


def test_few_public_names_are_defined_twice():
    defined = [name for tree in TREES.values() for name in {*house.public_names(tree)}]
    twice = {name for name in defined if defined.count(name) > 1}
    assert len(twice) <= 5, twice
    assert twice >= house.TWICE.keys()


def test_what_is_known_of_primitives_is_tags_of_their_rules():
    sets = {
        name
        for path, tree in TREES.items()
        if "rules" not in path.parts
        for name, _ in house.sets_of_primitives(tree)
    }
    assert sets == house.OUTSIDE.keys()


@pytest.mark.parametrize(
    "source",
    [
        "A = {p.a_p, p.b_p, p.c_p}",
        "A = frozenset(named_primitives('a_p', 'b_p', 'c_p'))",
        "A = ('a_p b_p', 'c_p')",
    ],
)
def test_a_set_of_primitives_is_seen(source):
    assert [*house.sets_of_primitives(ast.parse(source))] == [("A", 1)]


@pytest.mark.parametrize(
    ("source", "sections"),
    [
        ("def f(x):\n    'Return x.'", [">>>", "Returns:"]),
        ("def f(x, y):\n    'Add.\\n\\nReturns:\\n\\n>>> f(1, 2)'", ["Args:"]),
        ("def f():\n    'Returns: >>>'\n    raise ValueError", ["Raises:"]),
        ("def f():\n    'Returns: >>>'\n    _require_widths(1)", ["Raises:"]),
        ("class A:\n    'A value.'", [">>>"]),
    ],
)
def test_a_section_that_is_missing_is_named(source, sections):
    assert house.missing_sections(ast.parse(source).body[0]) == sections


@pytest.mark.parametrize("name", ["summarise", "_normalised", "colours", "parametrisation"])
def test_british_spelling_is_seen(name):
    assert house.is_british(name)


@pytest.mark.parametrize("name", ["size", "axis", "optimizer", "precise", "raise_error", "promise"])
def test_other_words_are_not_british(name):
    assert not house.is_british(name)
