"""The sites that a selector chooses in a program: groups of equations of one body."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.extend.core import Var

from fbp.autodiff import graph as g
from fbp.autodiff.avals import differentiable
from fbp.autodiff.edits.program import NamedProgram, function_name, line_of_user
from fbp.autodiff.edits.selectors import Named, Selector, scope_names
from fbp.autodiff.graph import Graph
from fbp.autodiff.restage import Key, Site, bodies, site_of
from fbp.errors import InputError

SEE_ALL = "fbp.sites(f, *args) prints all."
LISTED = 5  # what a message can name before nobody reads it


@dataclass(eq=False)
class SiteGroup:
    """The equations of one site: their numbers in the body that they share.

    Attributes:
      within: the key of the body; empty for the program itself.
      graph: the body.
      label: what the equations share.
      parameters: the inputs of the function among the values of the body, also cast or moved.
      moving: the primitives that return their operand's entries.
      always: whether they are chosen in every iteration of the loops around them.
      sites: the equations.
    """

    within: Key
    graph: Graph
    label: Any
    moving: frozenset[Any] = frozenset()
    parameters: frozenset[Var] = frozenset()
    always: bool = True
    sites: list[Site] = field(default_factory=list)

    @property
    def numbers(self) -> frozenset[int]:
        """Return the numbers of the equations in the body."""
        return frozenset(site.key[-1] for site in self.sites)

    @property
    def name(self) -> str:
        """Return what a reader calls the site."""
        first = self.sites[0]
        if isinstance(self.label, tuple) and isinstance(self.label[-1], str):
            return self.label[-1]
        called = function_name(first.eqn) or str(first.eqn.primitive)
        return "/".join([*scope_names(first)[-1:], called])

    @property
    def source(self) -> str:
        """Return a line of the user's behind the site."""
        return line_of_user(site.eqn for site in self.sites)

    def __str__(self) -> str:
        return f"{self.name} at {self.source}"

    @property
    def inputs(self) -> list[Var]:
        """Return what the equations read from outside, in the order in which they compute with it:
        a cast, a transpose and the like does not count."""
        source: dict[Any, Var] = {}
        defined = {v for site in self.sites for v in site.eqn.outvars}
        first, later = [], []
        for site in self.sites:
            read = [v for v in site.eqn.invars if isinstance(v, Var)]
            outside = [source.get(v, v) for v in read if v in source or v not in defined]
            if site.eqn.primitive in self.moving and len(outside) == len(site.eqn.invars) == 1:
                source[site.eqn.outvars[0]] = outside[0]
                later += outside
            else:
                first += outside
        return list(dict.fromkeys((*first, *later)))

    @property
    def outputs(self) -> list[Var]:
        """Return what is read outside of what the equations compute."""
        numbers = self.numbers
        others = (eqn.invars for i, eqn in enumerate(self.graph.eqns) if i not in numbers)
        read = g.variables(*others, self.graph.outvars)
        return [v for site in self.sites for v in site.eqn.outvars if v in read]

    def values(self, of: str) -> list[Var]:
        """Return those of the inputs or outputs that can have a cotangent."""
        chosen = self.inputs if of == "inputs" else self.outputs
        return [v for v in chosen if differentiable(v.aval)]


def choose(selector: Selector, program: NamedProgram) -> list[SiteGroup]:
    """Return the sites that a selector chooses, in the order in which they run.

    Raises InputError, with what is nearest, if there is none.
    """
    resolved = selector.resolve(program)
    groups = list(_chosen(resolved, program, program.graph, None))
    if not groups:
        raise InputError(no_match(selector, resolved, program))
    return groups


def _chosen(
    selector: Selector, program: NamedProgram, graph: Graph, around: Site | None
) -> Iterator[SiteGroup]:
    """Yield the groups of one body in the order of their first equations, each before those inside
    later equations. A group ends where its values leave it and come back."""
    within = () if around is None else around.key
    current: dict[Any, SiteGroup] = {}
    inside: dict[Var, SiteGroup] = {}  # which group computed a value
    left: dict[Var, frozenset[SiteGroup]] = {}  # which groups a value depends on from the outside
    order: list[SiteGroup | list[SiteGroup]] = []
    for i, eqn in enumerate(graph.eqns):
        site = site_of(eqn, i, around)
        may, always = selector.match(site)
        read = [v for v in eqn.invars if isinstance(v, Var)]
        mine = None
        if may:
            label = selector.group(site)
            mine = current.get(label)
            if mine is None or any(mine in left.get(v, ()) for v in read):
                mine = current[label] = SiteGroup(
                    within, graph, label, program.moving, program.parameter_variables
                )
                order.append(mine)
            mine.sites.append(site)
            mine.always = mine.always and always
            inside.update((v, mine) for v in eqn.outvars)
        else:
            for body in bodies(site):
                order.append(list(_chosen(selector, program, body.graph, body.around)))
        outside = frozenset().union(*(left.get(v, frozenset()) for v in read))
        outside |= {inside[v] for v in read if v in inside and inside[v] is not mine}
        left.update((v, outside) for v in eqn.outvars)
    for entry in order:
        yield from [entry] if isinstance(entry, SiteGroup) else entry


def no_match(selector: Selector, resolved: Selector, program: NamedProgram) -> str:
    """Return what to say of a selector that chooses nothing."""
    parts = []
    for leaf in resolved.leaves():
        hits = sum(leaf.match(site)[0] for site in program.sites)
        text = f"{leaf} alone matches {hits} equations"
        if isinstance(leaf, Named) and not hits:
            text = f"{leaf} matches nothing; {_nearest(leaf, program)}"
        parts.append(text)
    if len(parts) == 1:
        return f"no site: {parts[0].replace(' alone', '')}. {SEE_ALL}"
    return f"no site: {selector} matches nothing: {'; '.join(parts)}. {SEE_ALL}"


def _nearest(leaf: Named, program: NamedProgram) -> str:
    names = dict.fromkeys(x for site in program.sites for x in leaf.names(site))
    if leaf.kind == "line":
        names = {x: None for x in names if "/" not in x and ":" in x}
    if not names:
        return f"the program has no {leaf.kind} at all"
    near = difflib.get_close_matches(leaf.pattern.strip("*/"), names, LISTED, cutoff=0.3)
    others = [] if near else list(names)[:LISTED]
    return f"{'the nearest are' if near else 'there are'} {', '.join(map(repr, near or others))}"


def described(groups: Sequence[SiteGroup]) -> str:
    """Return the first sites, for a message."""
    more = f", and {len(groups) - LISTED} more" if len(groups) > LISTED else ""
    return ", ".join(map(str, groups[:LISTED])) + more
