"""The primitives whose derivative another library states for JAX.

JAX keeps the rules that the authors of primitives state in its own tables. Rules of JAX's modules
are left alone (decision 8): what counts is where the functions of a rule come from, or, where JAX's
helpers made the rule of nothing else (`ad.deflinear`), which module has the primitive by name.
"""

import functools
import sys
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

from jax.extend.core import Primitive
from jax.interpreters import ad

OF_JAX = frozenset({"jax", "jaxlib", "fbp"})
"""fbp states the forward derivatives of its own primitives there too."""

NEUTRAL = OF_JAX | frozenset({*sys.stdlib_module_names, "numpy", "scipy", "ml_dtypes"})
"""Packages whose functions do not say who stated a rule that calls them."""


def stated_for_jax() -> list[Primitive]:
    """Return the primitives for which a library other than JAX states a derivative, forward or as a
    transpose alone."""
    primitives = dict.fromkeys([*ad.primitive_jvps, *ad.primitive_transposes])
    others = {p for p in primitives if not _packages(p) <= NEUTRAL}
    named = _named_by_others([p for p in primitives if p not in others])
    return [p for p in primitives if p in others or p in named]


def _packages(primitive: Primitive) -> set[str]:
    """Return the packages from which the functions of a primitive's rules come."""
    rules = [table.get(primitive) for table in (ad.primitive_jvps, ad.primitive_transposes)]
    return set(map(_package, _functions(rules)))


def _functions(rules: list[Any]) -> Iterator[Any]:
    """Walk the functions within partial applications, containers and closures."""
    pending, visited = list(rules), set()
    while pending:
        item = pending.pop()
        if id(item) in visited:
            continue
        visited.add(id(item))
        if isinstance(item, functools.partial):
            pending += [item.func, *item.args, *item.keywords.values()]
        elif isinstance(item, tuple | list):
            pending += item
        elif callable(item):
            yield item
            cells = item.__closure__ or () if isinstance(item, FunctionType) else ()
            pending += filter(callable, map(_content, cells))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _package(function: Any) -> str:
    """Return the top package of a function, or of the class of a callable object."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.partition(".")[0]


def _named_by_others(primitives: Iterable[Primitive]) -> set[Primitive]:
    """Return those primitives that are names in modules, and in none of JAX's."""
    by_id = {id(primitive): primitive for primitive in primitives}
    packages: dict[Primitive, set[str]] = {}
    for name, module in list(sys.modules.items()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if id(value) in by_id:
                packages.setdefault(by_id[id(value)], set()).add(name.partition(".")[0])
    return {p for p, names in packages.items() if not names & OF_JAX}
