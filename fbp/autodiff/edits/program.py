"""What selectors may ask of a program: its equations, its parameters' names, its rules' tags."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from jax.extend import source_info_util
from jax.extend.core import Var
from jax.extend.core import primitives as p

from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.restage import Key, Site, bodies, operands, site_of, walk
from fbp.autodiff.rule import Rules

FRAMES = 100  # of a stack: those further out are the start of the program
LIBRARY = frozenset({"site-packages", "dist-packages"})
NAMED_BY_USERS = ("call_jaxpr", "jaxpr", "fun_jaxpr")


@dataclass(frozen=True, eq=False)
class Program:
    """A staged function, the names of its inputs, and the rules that differentiate it.

    Inputs without a name (constants, arguments that are not differentiated) have an empty one.
    """

    graph: Graph
    names: tuple[str, ...]
    rules: Rules

    @cached_property
    def sites(self) -> list[Site]:
        """Return every equation, those inside others too."""
        return list(walk(self.graph))

    def tags(self, site: Site) -> Iterable[str]:
        """Return the tags of the rule of an equation's primitive."""
        return sorted(self.rules.tags.get(site.eqn.primitive, ()))

    def parameters(self, site: Site) -> Iterable[str]:
        """Return the names of the inputs that an equation is the first to compute with, each with
        and without its leading parts."""
        return [
            "/".join(name.split("/")[i:])
            for name in sorted(self._readers.get(site.key, ()))
            for i in range(name.count("/") + 1)
        ]

    @cached_property
    def _readers(self) -> dict[Key, set[str]]:
        readers: dict[Key, set[str]] = {}
        named = {v: {x} for v, x in zip(self.graph.invars, self.names, strict=True) if x}
        _follow(self.graph, None, named, readers, self.rules.table.tagged("moves"))
        return readers


def _follow(
    graph: Graph,
    around: Site | None,
    named: dict[Var, set[str]],
    readers: dict[Key, set[str]],
    moving: frozenset[Any],
) -> list[set[str]]:
    """Follow named values to the equations that compute with them, and return the names of the
    results that are still those values."""
    for i, eqn in enumerate(graph.eqns):
        names = [named.get(v, set()) if isinstance(v, Var) else set() for v in eqn.invars]
        if not any(names):
            continue
        site = site_of(eqn, i, around)
        programs = bodies(site)
        for body in programs:
            by_var = {v: named.get(v, set()) for v in operands(body) if isinstance(v, Var)}
            pairs = zip(operands(body), body.graph.invars, strict=True)
            inside = {v: by_var[a] for a, v in pairs if isinstance(a, Var) and by_var[a]}
            results = _follow(body.graph, body.around, inside, readers, moving)
            if body.around.loops == site.loops:
                named.update((v, x) for v, x in zip(eqn.outvars, results, strict=True) if x)
        if not programs:
            if eqn.primitive in moving and len(eqn.invars) == 1:
                named[eqn.outvars[0]] = names[0]
            else:
                readers[site.key] = set().union(*names)
    return [named.get(v, set()) if isinstance(v, Var) else set() for v in graph.outvars]


def paths(tree: Any) -> tuple[str, ...]:
    """Return the path of each leaf of a tree, its parts divided by slashes."""
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    )


def frames(eqn: JaxprEqn) -> list[str]:
    """Return `file:line:column (function)` of the calls behind an equation, the innermost first."""
    return source_info_util.summarize(eqn.source_info, num_frames=FRAMES).splitlines()[::-1]


def line_of_user(eqns: Iterable[JaxprEqn]) -> str:
    """Return the line behind some equations that is nearest to them and in no installed package,
    if there is one."""
    nearest = [frame for eqn in eqns for frame in frames(eqn)]
    outside = [frame for frame in nearest if not LIBRARY.intersection(Path(frame).parts)]
    return next(iter(outside or nearest), "a line of a library")


def function_name(eqn: JaxprEqn) -> str | None:
    """Return the name of the function that a jit, custom_jvp or custom_vjp equation calls."""
    if eqn.primitive is p.jit_p:
        return eqn.params["name"]
    if eqn.primitive in (p.custom_jvp_call_p, p.custom_vjp_call_p):
        body = next(eqn.params[key] for key in NAMED_BY_USERS if key in eqn.params)
        return str(getattr(body, "jaxpr", body).debug_info.func_src_info).split(" at ")[0]
    return None
