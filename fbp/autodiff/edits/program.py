"""What selectors may ask of a program: its equations, its parameters' names, its rules' tags."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
from jax.extend import source_info_util
from jax.extend.core import Var
from jax.extend.core import primitives as p

from fbp.autodiff.graph import USER_FUNCTIONS, Graph, JaxprEqn
from fbp.autodiff.restage import Body, Key, Site, bodies, body_operands, carried, site_of, walk
from fbp.autodiff.rule import Rules

FRAMES = 100  # of a stack: those further out are the start of the program
LIBRARY = frozenset({"site-packages", "dist-packages"})
NAMED_BY_USERS = ("call_jaxpr", "jaxpr", "fun_jaxpr")


@dataclass(frozen=True, eq=False)
class NamedProgram:
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
            for name in sorted(self._followed[0].get(site.key, ()))
            for i in range(name.count("/") + 1)
        ]

    @property
    def parameter_variables(self) -> frozenset[Var]:
        """Return the inputs with a name, and what casts and moves of them, in any body."""
        return self._followed[1]

    @property
    def moving(self) -> frozenset[Any]:
        """Return the primitives that return their operand's entries."""
        return self.rules.table.tagged("moves")

    @cached_property
    def _followed(self) -> tuple[dict[Key, set[str]], frozenset[Var]]:
        followed = Followed(self.moving)
        pairs = zip(self.graph.invars, self.names, strict=True)
        followed.follow(self.graph, None, {v: {(x, True)} for v, x in pairs if x})
        return followed.readers, frozenset(followed.parameters)


Names = dict[Var, set[tuple[str, bool]]]
"""By a value the names of the inputs that it is; and whether it is that in each iteration of the
loops around, not in the first alone."""


@dataclass(frozen=True)
class Followed:
    """The equations that are the first to compute with named inputs, and the values that are such
    inputs, also cast or moved."""

    moving: frozenset[Any]
    readers: dict[Key, set[str]] = field(default_factory=dict)
    parameters: set[Var] = field(default_factory=set)

    def follow(self, graph: Graph, around: Site | None, named: Names) -> list[set]:
        """Follow named values through a program, and return the names of its results."""
        for i, eqn in enumerate(graph.eqns):
            names = [named.get(v, set()) if isinstance(v, Var) else set() for v in eqn.invars]
            if any(names):
                site = site_of(eqn, i, around)
                for body in bodies(site):
                    results = self.follow(body.graph, body.around, self._inside(body, named))
                    if body.around.loops == site.loops:
                        named |= {v: x for v, x in zip(eqn.outvars, results, strict=True) if x}
                if not bodies(site) and eqn.primitive in self.moving and len(names) == 1:
                    named[eqn.outvars[0]] = names[0]
                elif not bodies(site):
                    self.readers[site.key] = {name for xs in names for name, _ in xs}
        self.parameters.update(v for v, xs in named.items() if any(always for _, always in xs))
        return [named.get(v, set()) if isinstance(v, Var) else set() for v in graph.outvars]

    def _inside(self, body: Body, named: Names) -> Names:
        """Return the named inputs of a body."""
        pairs = enumerate(zip(body_operands(body), body.graph.invars, strict=True))
        return {
            v: {(name, always and i not in carried(body)) for name, always in named[a]}
            for i, (a, v) in pairs
            if isinstance(a, Var) and a in named
        }


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
    if eqn.primitive in USER_FUNCTIONS:
        body = next(eqn.params[key] for key in NAMED_BY_USERS if key in eqn.params)
        return str(getattr(body, "jaxpr", body).debug_info.func_src_info).split(" at ")[0]
    return None
