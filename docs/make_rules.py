"""Write docs/rules.md: every primitive, its rule as it stands in the source, and its test.

    python -m docs.make_rules

JAX has other primitives in other versions. Rows of the page whose primitive this JAX does not
have are kept as they are.
"""

import ast
import contextlib
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from jax.extend.core import Primitive, primitives

import fbp
from fbp.autodiff import rules
from fbp.autodiff.rule import TAGS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "rules.md"
TESTS = ROOT / "tests" / "autodiff" / "rules"

HEAD = """\
# The table of rules

Written by `python -m docs.make_rules` from the source; a test fails when it is out of date.

A rule says how the cotangent of a primitive's output becomes the cotangents of its operands, one
function for each operand. Kinds, from the shortest:

| kind | the cotangent of operand x of y = p(x, ...) |
|---|---|
| constant | none: y has no derivative |
| derivative | ct * f(x, ..., y) |
| transpose | f(ct, x, ...), which asks x for its shape only |
| vjp | f(ct, y, x, ...) |
| vjp_jointly | one of f(cts, ys, xs, needs_ct) |
| call | the primitive holds programs, see the function |

`None` instead of a function: that operand has no derivative. Keyword-only arguments are
parameters of the primitive. `ct` is the cotangent of y.

A tag is a further property of the primitive, which other parts of fbp ask the table for. A rule
that replaces another one keeps its tags, and `rule.tag(...)` adds one:

{TAGS}

Each case is differentiated by fbp and by JAX, and the results are compared in units in the last
place. The tests of one primitive: `pytest tests/autodiff/rules -k "sin-"`.
"""

COLUMNS = ["| primitive | kind | rule | tags | cases |", "|---|---|---|---|---|"]

NO_RULE = """\
## No rule yet

JAX's other primitives, except those inside kernels (Pallas, Mosaic, Triton). On the path of a
gradient these raise `MissingRule`, which names the line and says how to state a rule. Elsewhere
they do no harm.
"""

# Modules whose primitives occur in users' programs, outside of kernels (Pallas, Mosaic, Triton).
IMPORTED = (
    "jax.experimental.buffer_callback",
    "jax.experimental.compute_on",
    "jax.experimental.custom_partitioning",
    "jax.experimental.fused",
    "jax.experimental.hijax",
    "jax.experimental.key_reuse",
    "jax.experimental.multihost_utils",
    "jax.experimental.pallas",
    "jax.experimental.rnn",
    "jax.experimental.scheduling_groups",
    "jax.experimental.shard_alike",
    "jax.experimental.sparse",
    "jax.experimental.sparse.linalg",
    "jax.experimental.xla_metadata",
    "jax.export",
    "jax.nn",
)
SOURCES = (
    *IMPORTED,
    "jax._src.ad_util",
    "jax._src.buffer_callback",
    "jax._src.compute_on",
    "jax._src.core",
    "jax._src.cudnn",
    "jax._src.custom_",
    "jax._src.export",
    "jax._src.hijax",
    "jax._src.interpreters.ad",
    "jax._src.lax",
    "jax._src.pallas.pallas_call",
    "jax._src.random",
    "jax._src.shard_alike",
    "jax._src.state.primitives",
    "jax._src.xla_metadata",
)

# A program that creates mutable arrays is rewritten without them before it is differentiated.
REFS = {"new_ref", "empty_ref", "free_ref", "freeze"}

Rows = dict[str, str]


def main() -> None:
    """Write the page; the cases of collectives need devices."""
    jax.config.update("jax_num_cpu_devices", 8)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""))


def page(before: str) -> str:
    """Return the page; rows of other JAX versions are taken from the one before."""
    ruled = {q.name for q in fbp.RULES}
    known = ruled | {q.name for q in vars(primitives).values() if isinstance(q, Primitive)}
    every = ruled | {q.name for q in _primitives()}
    others = {
        title: {name: row for name, row in rows.items() if name not in known}
        for title, rows in sections(before).items()
    }
    unruled = others.pop("No rule yet", {}).keys() - every
    elsewhere = {name for rows in others.values() for name in rows}
    parts = [_table(module, others.get(_name(module), {})) for module in families()]
    without = every - ruled - elsewhere - REFS | unruled
    listed = "\n".join(f"- `{name}`" for name in sorted(without))
    meanings = (f"| {tag} | {meaning} |" for tag, meaning in TAGS.items())
    tags = "\n".join(["| tag | meaning |", "|---|---|", *meanings])
    return "\n".join([HEAD.replace("{TAGS}", tags), *parts, NO_RULE, listed, ""])


def sections(text: str) -> dict[str, Rows]:
    """Return a page's rows, by family and primitive."""
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    rows = re.compile(r"^(?:\| |- )`(.+?)`.*$", flags=re.MULTILINE)
    return {
        title: {row[1]: row[0] for row in rows.finditer(body)}
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def families() -> Iterator[ModuleType]:
    """Yield the modules that state rules."""
    for info in pkgutil.iter_modules(rules.__path__, "fbp.autodiff.rules."):
        module = importlib.import_module(info.name)
        if hasattr(module, "RULES"):
            yield module


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _primitives() -> set[Primitive]:
    """Collect the primitives of this JAX: the public ones, and those of the modules of SOURCES."""
    for name in IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    modules = [module for name, module in sys.modules.items() if name.startswith(SOURCES)]
    values = [x for module in [primitives, *modules] for x in list(vars(module).values())]
    return {q for q in values if isinstance(q, Primitive)} | set(fbp.RULES)


def _table(module: ModuleType, others: Rows) -> str:
    name = _name(module)
    cases = _cases(TESTS / f"test_{name}.py")
    rows = {rule.primitive.name: _row(rule, cases) for rule in module.RULES.values()} | others
    about = _first(module).rstrip(".:")
    files = ", ".join(
        f"[{path}](../{path})"
        for path in (f"fbp/autodiff/rules/{name}.py", f"tests/autodiff/rules/test_{name}.py")
        if (ROOT / path).exists()
    )
    head = [f"## {name}", "", f"{about}. {files}", "", *COLUMNS]
    return "\n".join([*head, *(rows[key] for key in sorted(rows)), ""])


def _row(rule: fbp.Rule, cases: Mapping[str, list[Any]]) -> str:
    text = "<br>".join(source(f) for f in rule.functions).replace("|", "\\|") or "none"
    mine = cases.get(rule.primitive.name, [])
    dtypes = " ".join(dict.fromkeys(dtype for case in mine for dtype in case.dtypes))
    tested = f"{len(mine)}: {dtypes}" if mine else ""
    tags = " ".join(tag for tag in TAGS if rule.primitive in fbp.RULES.tagged(tag))
    return f"| `{rule.primitive.name}` | {rule.kind} | {text} | {tags} | {tested} |"


def source(function: Callable | None) -> str:
    """Return a lambda as it stands in the source; for another function, its name and first
    paragraph, or those of the function that returns it."""
    if function is None:
        return "`None`"
    if function.__name__ != "<lambda>":
        name = function.__qualname__.split(".")[0]
        return f"`{name}`: {_first(inspect.unwrap(function).__globals__[name])}"
    (node,) = _lambdas_of(function)
    return f"`{ast.unparse(node)}`"


def _first(documented: Any) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return (inspect.getdoc(documented) or "").split("\n\n")[0].replace("\n", " ")


def _lambdas_of(function: Callable) -> Iterator[ast.Lambda]:
    """Yield the lambda whose body holds all positions of the function's code."""
    code = function.__code__
    positions = [(line, column) for line, _, column, _ in code.co_positions() if column]
    for node in ast.walk(ast.parse(Path(code.co_filename).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            start = node.body.lineno, node.body.col_offset
            end = node.body.end_lineno or 0, node.body.end_col_offset or 0
            if all(start <= position < end for position in positions):
                yield node


def _cases(path: Path) -> Mapping[str, list[Any]]:
    """Import the cases of a family's test file, by primitive."""
    if not path.exists():
        return {}
    sys.path[:0] = added = [str(path.parent), str(ROOT)]
    try:
        module = importlib.import_module(path.stem)
    finally:
        del sys.path[: len(added)]
    by_primitive: dict[str, list[Any]] = {}
    for case in getattr(module, "CASES", ()):
        by_primitive.setdefault(case.primitive.name, []).append(case)
    return by_primitive


if __name__ == "__main__":
    main()
