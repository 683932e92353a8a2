"""The primitives whose derivative another library states for JAX.

JAX keeps the rules that the authors of primitives state in its own tables. Rules of JAX's modules
are left alone (decision 8): what counts is where the functions of a forward rule come from, or,
where there is none or JAX's helpers made it (`ad.deflinear`), which modules have the primitive by
name.
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
    forward, transposes = ad.primitive_jvps, ad.primitive_transposes
    stated = {p for p, rule in forward.items() if _of_others(rule)}
    rest = dict.fromkeys(p for p in [*forward, *transposes] if p not in stated)
    packages = _packages_that_name(rest)
    stated |= {
        p
        for p in rest
        if not packages[p] & OF_JAX and (packages[p] or _of_others(transposes.get(p)))
    }
    return [p for p in dict.fromkeys([*forward, *transposes]) if p in stated]


def num_stated() -> tuple[int, int]:
    """Count the rules that JAX has, which only grow: for more of them, look again."""
    return len(ad.primitive_jvps), len(ad.primitive_transposes)


def _of_others(rule: Any) -> bool:
    """Say whether a rule has a function that is neither JAX's nor neutral."""
    return not NEUTRAL.issuperset(map(_package, _functions([rule])))


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


def _packages_that_name(primitives: Iterable[Primitive]) -> dict[Primitive, set[str]]:
    """Return the packages of the modules that have each primitive by name."""
    by_id = {id(primitive): primitive for primitive in primitives}
    packages: dict[Primitive, set[str]] = {primitive: set() for primitive in primitives}
    for name, module in list(sys.modules.items()):
        for value in list(getattr(module, "__dict__", {}).values()):
            if id(value) in by_id:
                packages[by_id[id(value)]].add(name.partition(".")[0])
    return packages
