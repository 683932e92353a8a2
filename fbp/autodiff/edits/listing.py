"""The tree of sites of a function: what a selector can choose, as text and as HTML."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

from jax.extend.core import primitives as p

from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.edits.at import value_names
from fbp.autodiff.edits.groups import SiteGroup, choose
from fbp.autodiff.edits.kinds import AtSite
from fbp.autodiff.edits.program import NamedProgram, function_name, line_of_user, paths
from fbp.autodiff.edits.selectors import Selector, selector
from fbp.autodiff.edits.taps import names
from fbp.autodiff.flat_function import flatten_function
from fbp.autodiff.graph import Graph
from fbp.autodiff.restage import Site, bodies, manual_axes, site_of
from fbp.autodiff.rule import Rules
from fbp.autodiff.table import RULES


@dataclass(eq=False)
class Node:
    """A scope, or an equation that holds a program.

    Attributes:
      name: what it is called.
      count: how many equations are in it, those of its children too.
      primitives: how often each primitive stands in it, without those of its children.
      children: the scopes and programs in it.
      source: a line of the user's.
      result: the types of what its last equation returns.
      notes: the parameters that its equations are the first to compute with, and the names that
        they give to values.
    """

    name: str
    count: int = 0
    primitives: Counter = field(default_factory=Counter)
    children: dict[str, "Node"] = field(default_factory=dict)
    source: str = ""
    result: str = ""
    notes: dict[str, None] = field(default_factory=dict)

    def child(self, name: str) -> "Node":
        """Return the child of this name."""
        return self.children.setdefault(name, Node(name))

    @property
    def summary(self) -> str:
        """Return a line on what is in it."""
        equations = "1 equation" if self.count == 1 else f"{self.count} equations"
        parts = [equations, self.result and f"-> {self.result}", self.source]
        return "  ".join(filter(None, parts))

    @property
    def contents(self) -> list[str]:
        """Return lines on its equations."""
        counted = [k if n == 1 else f"{k} x{n}" for k, n in self.primitives.items()]
        return [x for x in (", ".join(counted), ", ".join(self.notes)) if x]


@dataclass(frozen=True, eq=False)
class ChosenSite:
    """A site that a selector chooses.

    Attributes:
      name: its name, by which a tap's result is found if there are several.
      source: a line of the user's behind it.
      equations: how many equations it has.
      ins: the types of the values that it reads, with the names of parameters, in the order in
        which the function of a region gets them.
      outs: the types of its outputs.
    """

    name: str
    source: str
    equations: int
    ins: tuple[str, ...]
    outs: tuple[str, ...]

    def __repr__(self) -> str:
        types = f"({', '.join(self.ins)}) -> ({', '.join(self.outs)})"
        return f"{self.name}  {types}  {self.source}"


@dataclass(frozen=True, eq=False)
class Sites:
    """The tree of sites of a function, as `fbp.sites` returns it; it prints itself.

    Attributes:
      root: the function.
      program: the staged function.
      edits: the edits of the table, each with the sites that it chooses.
    """

    root: Node
    program: NamedProgram
    edits: tuple[tuple[Any, list[ChosenSite]], ...] = ()

    def choose(self, site: Selector | str) -> list[ChosenSite]:
        """Return the sites that a selector chooses.

        Args:
          site: a selector of `fbp.at`, or the pattern of a scope.

        Returns:
          The sites, in the order in which they run.

        Raises:
          fbp.InputError: it chooses none; the message names the nearest.

        >>> import fbp, jax.numpy as jnp
        >>> fbp.sites(jnp.tanh, 1.0).choose(fbp.at.primitive("tanh"))
        [tanh  (0: float32[]) -> (float32[])  a line of a library]
        """
        return chosen_sites(choose(selector(site), self.program), self.program)

    def __repr__(self) -> str:
        lines = list(_lines(self.root, "", ""))
        for i, (edit, sites) in enumerate(self.edits, start=1):
            lines += [f"{i}. {edit}", *(f"   {site}" for site in sites)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        edits = "".join(
            f"<li><code>{escape(str(edit))}</code><ul>"
            + "".join(f"<li><code>{escape(str(site))}</code></li>" for site in sites)
            + "</ul></li>"
            for edit, sites in self.edits
        )
        return _html(self.root, True) + (f"<ol>{edits}</ol>" if edits else "")


def _lines(node: Node, first: str, rest: str) -> Iterator[str]:
    yield f"{first}{node.name}: {node.summary}"
    bar = "|" if node.children else " "
    yield from (f"{rest}{bar}   {x}" for x in node.contents)
    last = len(node.children) - 1
    for i, child in enumerate(node.children.values()):
        yield from _lines(child, f"{rest}|- ", rest + ("   " if i == last else "|  "))


def _html(node: Node, is_open: bool) -> str:
    contents = "".join(f"<div><code>{escape(x)}</code></div>" for x in node.contents)
    children = "".join(_html(child, False) for child in node.children.values())
    return (
        f"<details{' open' if is_open else ''} style='margin-left: 1em'>"
        f"<summary><b>{escape(node.name)}</b> {escape(node.summary)}</summary>"
        f"{contents}{children}</details>"
    )


def sites(fun: Callable, *args: Any, rules: Rules = RULES) -> Sites:
    """Return the tree of sites of a function: its scopes, and the programs in its equations.

    Args:
      fun: a function of arrays and pytrees, such as a loss.
      *args: its arguments, or their types.
      rules: a table of rules; the sites that its edits choose are printed after the tree.

    Returns:
      A tree that prints itself, in a notebook as HTML; `choose(selector)` lists the sites that a
      selector chooses.

    Raises:
      fbp.InputError: an edit of `rules` chooses no site.

    >>> import fbp, jax, jax.numpy as jnp
    >>> def f(params, x):
    ...     with jax.named_scope("dense"):
    ...         return jnp.tanh(x @ params["w"])
    >>> tree = fbp.sites(f, {"w": jnp.ones((3, 2))}, jnp.ones(3))
    >>> tree.root.children["dense"].contents
    ['dot_general, tanh', "reads '0/w', reads '1'"]
    """
    staged = flatten_function(fun, args, False, rules)
    in_names = paths(staged.in_tree.unflatten(range(staged.in_tree.num_leaves)))
    program = NamedProgram(staged.graph, in_names, rules)
    root = Node(staged.name)
    _grow(root, program, staged.graph, None)
    edits = tuple(
        (edit, chosen_sites(choose(edit.site, program), program))
        for edit in rules.edits
        if isinstance(edit, AtSite)
    )
    return Sites(root, program, edits)


def _grow(root: Node, program: NamedProgram, graph: Graph, around: Site | None) -> None:
    """Put the equations of a program, and those inside them, into the tree."""
    outside = len(around.scopes) if around else 0
    for i, eqn in enumerate(graph.eqns):
        site = site_of(eqn, i, around)
        branch = [root]
        for scope in "/".join(site.scopes[outside:]).split("/"):
            branch += [branch[-1].child(scope)] if scope else []
        programs, source = bodies(site), line_of_user([eqn])
        for node in branch:
            node.source = node.source or source
            node.result = ", ".join(_type(v.aval) for v in eqn.outvars)
        if not programs:
            _note(branch, program, site)
        for body in programs:
            inside = branch[-1].child(f"{_holder(site, body.around)} #{i}")
            inside.source, inside.result = source, branch[-1].result
            _grow(inside, program, body.graph, body.around)
            for node in branch:
                node.count += inside.count


def _note(branch: list[Node], program: NamedProgram, site: Site) -> None:
    """Count an equation in the scopes around it."""
    for node in branch:
        node.count += 1
    node = branch[-1]
    node.primitives[site.eqn.primitive.name] += 1
    node.notes.update((f"name {x!r}", None) for x in value_names(site))
    read = [x for x in program.parameters(site) if x in program.names]
    node.notes.update((f"reads {x!r}", None) for x in read)


def _holder(site: Site, inside: Site) -> str:
    """Return what an equation that holds a program is called in the tree."""
    eqn = site.eqn
    if eqn.primitive is p.scan_p:
        return f"scan of {eqn.params['length']}"
    if eqn.primitive is p.cond_p:
        return f"cond, branch {inside.key[-1]}"
    if eqn.primitive is shard_map_p:
        return f"shard_map over {', '.join(manual_axes(eqn.params))}"
    return " ".join(filter(None, [str(eqn.primitive), function_name(eqn)]))


def _type(aval: Any) -> str:
    return f"{aval.dtype}{list(aval.shape)}" if hasattr(aval, "dtype") else str(aval)


def chosen_sites(groups: list[SiteGroup], program: NamedProgram) -> list[ChosenSite]:
    """Return what there is to say of sites."""
    named = dict(zip(program.graph.invars, program.names, strict=True))
    result = []
    for group, name in zip(groups, names(groups), strict=True):
        ins = tuple(": ".join(filter(None, [named.get(v), _type(v.aval)])) for v in group.inputs)
        outs = tuple(_type(v.aval) for v in group.outputs)
        result.append(ChosenSite(name, group.source, len(group.sites), ins, outs))
    return result
