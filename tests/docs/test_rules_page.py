"""docs/rules.md is what docs/make_rules.py writes, for this version of JAX."""

import runpy
from pathlib import Path

import pytest

import fbp

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "rules.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made():
    return runpy.run_path(str(DOCS / "make_rules.py"))


def test_page_is_up_to_date(made):
    sections = made["sections"]
    assert sections(made["page"](PAGE)) == sections(PAGE), "run: python -m docs.make_rules"


def test_every_rule_is_on_the_page(made):
    listed = {name for rows in made["sections"](PAGE).values() for name in rows}
    assert {primitive.name for primitive in fbp.RULES} <= listed


def test_rows_of_other_versions_are_kept(made):
    of_another_jax = "| `frobnicate` | constant | none |  |"
    page = PAGE.replace("## constants\n", f"## constants\n\n{of_another_jax}\n")
    assert of_another_jax in made["page"](page).splitlines()


def spread(ct, x):
    """Zeros, and
    ct."""


def test_a_lambda_is_shown_as_it_stands_and_another_function_by_name_and_docstring(made):
    first, second = (lambda x, y: x - y), (lambda x, *, axis: -x)
    assert made["source"](first) == "`lambda x, y: x - y`"
    assert made["source"](second) == "`lambda x, *, axis: -x`"
    assert made["source"](spread) == "`spread`: Zeros, and ct."
    assert made["source"](None) == "`None`"


def test_primitives_without_a_rule_are_listed():
    """Those of JAX's sparse arrays, kernels, callbacks and linear algebra, which users call."""
    without = PAGE.split("## No rule yet")[1]
    for name in (
        "bcoo_dot_general",
        "pallas_call",
        "buffer_callback",
        "schur",
        "custom_partitioning",
    ):
        assert f"- `{name}`\n" in without
    assert not any(f"- `{p.name}`\n" in without for p in fbp.RULES)
