"""A function's program with edits and taps in it, ready to be differentiated."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer
from jax.extend.core import primitives as p
from jax.sharding import get_abstract_mesh

from fbp.autodiff import graph as g
from fbp.autodiff.avals import cotangent_type, full, struct, varying
from fbp.autodiff.backprop import forward
from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.edits.groups import choose, described
from fbp.autodiff.edits.kinds import RegionEdit, ValueEdit
from fbp.autodiff.edits.marking import EditPlan, Surroundings, check_units, run_body
from fbp.autodiff.edits.program import NamedProgram, paths
from fbp.autodiff.edits.site_primitive import RULES, SiteEdit, with_rules, without_sites
from fbp.autodiff.edits.taps import Tap, by_site
from fbp.autodiff.flat_function import FlatFunction
from fbp.autodiff.graph import Graph
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.partition import ForwardBackward
from fbp.autodiff.restage import Body, Site, manual_axes
from fbp.autodiff.rule import Rules
from fbp.errors import InputError

Taps = Mapping[str, Tap] | Iterable[tuple[str, Tap]]
ROOT: Any = Site((), None)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, eq=False)
class Opened:
    """A program to differentiate by a table without edits.

    Attributes:
      rules: the rules.
      graph: the program, whose last inputs are the zeros.
      zeros: the inputs whose cotangents are statistics, in one list of leaves.
      taps: by the name of a tap its sites, and the tree of statistics at each.
    """

    rules: Rules
    graph: Graph
    zeros: list[Any] = field(default_factory=list)
    taps: Mapping[str, tuple[list[SiteEdit], Any]] = field(default_factory=dict)
    edited: Sequence[SiteEdit] = ()

    def tapped(self, cts: Sequence[Any]) -> dict[str, Any]:
        """Return what the taps measured, from the cotangents of the zeros."""
        arrived = [
            jnp.zeros_like(z) if ct is None else ct for ct, z in zip(cts, self.zeros, strict=True)
        ]
        measured = jax.tree.unflatten(
            jax.tree.structure([types for _, types in self.taps.values()]), arrived
        )
        by_name = zip(self.taps, self.taps.values(), measured, strict=True)
        return {name: by_site(sites, values) for name, (sites, _), values in by_name}

    def cleared(self, run: Callable, *args: Any) -> Any:
        """Call a function that differentiates the program; if that has edits and may itself be
        differentiated, stage what it does, and leave out what is left of them."""
        leaves, tree = jax.tree.flatten(args)
        if not (self.edited and any(isinstance(x, Tracer) for x in (*leaves, *self.graph.consts))):
            return run(*args)
        staged, out = g.stage(lambda *xs: run(*jax.tree.unflatten(tree, xs)), *map(struct, leaves))
        return jax.tree.unflatten(
            jax.tree.structure(out), eval_graph(without_sites(staged), leaves)
        )

    def check_reached(self) -> None:
        """Raise if an edit or a tap stands where no cotangent can come."""
        reached = self.edited[0].reached if self.edited else set()
        by_edit: dict[int, list[SiteEdit]] = {}
        for x in self.edited:
            by_edit.setdefault(x.index, []).append(x)
        for index, sites in by_edit.items():
            if index not in reached and not isinstance(sites[0].edit, ValueEdit):
                raise InputError(
                    f"{sites[0].edit} changes nothing: no cotangent comes to "
                    f"{described([x.group for x in sites])}, which is not between a differentiated "
                    "argument and the value."
                )


def value_and_cotangents(program: Opened, staged: FlatFunction) -> tuple[list[Any], list[Any]]:
    """Run the program of a function whose first output is a number, and return its outputs, and the
    cotangents of the arguments and of the zeros for the cotangent 1 of that number, None for zero.
    """
    needed = (*staged.needs_ct, *(True for _ in program.zeros))

    def run(*args: Any) -> tuple[list[Any], list[Any]]:
        outs, pullback = forward(
            program.rules, program.graph, args, needed, staged.has_out_ct, staged.evaluated
        )
        program.check_reached()
        one = full(cotangent_type(struct(outs[0])), 1)
        return outs, pullback([one, *(None for _ in outs[1:])])

    return program.cleared(run, *staged.leaves, *program.zeros)


def cleared_parts(program: Opened, parts: ForwardBackward) -> ForwardBackward:
    """Return the halves of a differentiated program without what is left of its edits."""
    if not program.edited:
        return parts
    ahead, num_outs = without_sites(parts.forward), parts.signature.sizes[1]
    values = {
        "input": ahead.invars,
        "output": ahead.outvars[:num_outs],
        "stored": ahead.outvars[num_outs:],
    }
    residuals = tuple(r._replace(var=values[r.origin][r.index]) for r in parts.residuals)
    return replace(
        parts, forward=ahead, backward=without_sites(parts.backward), residuals=residuals
    )


def opened(rules: Rules, staged: FlatFunction, taps: Taps | None = None) -> Opened:
    """Put the edits of a table, and taps, into a program; without any it stays as it is."""
    if not rules.edits and not taps:
        return Opened(rules, staged.graph)
    names = paths(jax.tree.unflatten(staged.in_tree, staged.in_avals))
    program = NamedProgram(staged.graph, names, rules)
    check_unasked(rules, staged)
    taps = check_taps(taps or {}, program)
    edits: list[Any] = [*rules.edits, *taps.values()]
    reached: set[int] = set()
    edited = [
        SiteEdit(edit, i, group, number, reached)
        for i, edit in enumerate(edits)
        for number, group in enumerate(choose(edit.site, program))
    ]
    check_edits(edited, rules)
    by_tap = [[x for x in edited if x.edit is tap] for tap in taps.values()]
    sites = [x for xs in by_tap for x in xs]
    zeros = [_zeros(x, program) for x in sites]
    graph = _marked(program, edits, edited, sites, zeros, rules.key)
    measured = iter(zeros)
    return Opened(
        with_rules(rules.table, RULES),
        graph,
        jax.tree.leaves(zeros),
        {name: (xs, [next(measured) for _ in xs]) for name, xs in zip(taps, by_tap, strict=True)},
        edited,
    )


def check_unasked(rules: Rules, staged: FlatFunction) -> None:
    """Raise if Python asked for values that an edit changes, or that come with side effects: the
    program with the edits in it runs anew."""
    changes = [edit for edit in rules.edits if isinstance(edit, ValueEdit)]
    acting = [done.eqn for done in staged.evaluated.values() if done.eqn.effects]
    if staged.evaluated and changes:
        raise InputError(
            f"{changes[0]} changes values, and Python's if, while or float() in {staged.name} "
            "asked for them before: use jax.lax.cond or jnp.where in the function."
        )
    if acting:
        raise InputError(
            f"{acting[0].primitive} has a side effect, at {g.location(acting[0])}, and Python "
            f"asked for values in {staged.name}: with edits or taps it would happen twice."
        )


def _marked(
    program: NamedProgram,
    edits: Sequence[Any],
    edited: Sequence[SiteEdit],
    sites: Sequence[SiteEdit],
    zeros: Sequence[Any],
    key: Any,
) -> Graph:
    """Return the program with the edits in it."""
    by_body: dict[Any, list[SiteEdit]] = {}
    for x in edited:
        by_body.setdefault(x.group.within, []).append(x)
    selectors = {i: edit.site.resolve(program) for i, edit in enumerate(edits)}
    plan = EditPlan(by_body, selectors, key)
    numbers = [(x.index, x.number) for x in sites]

    def run(ins: list[Any], zeros: list[Any]) -> list[Any]:
        around = Surroundings(zeros=dict(zip(numbers, zeros, strict=True)))
        return run_body(plan, Body(ROOT, program.graph), ins, around, ())

    avals = [v.aval for v in program.graph.invars]
    return g.stage(run, avals, jax.tree.map(struct, list(zeros)))[0]


def check_taps(taps: Taps, program: NamedProgram) -> dict[str, Tap]:
    """Return taps by name, each of them one of its own; raise if something else is among them, or
    one name is there twice."""
    by_name: dict[str, Tap] = {}
    pairs: Any = taps.items() if isinstance(taps, Mapping) else taps
    for name, tap in pairs:
        if not isinstance(tap, Tap):
            raise InputError(f"taps[{name!r}] is {tap!r}: give fbp.tap(site, statistic).")
        if name in by_name:
            first, second = (described(choose(x.site, program)) for x in (by_name[name], tap))
            raise InputError(
                f"the tap {name!r} is there twice, for {first} and for {second}: give each a name."
            )
        by_name[name] = replace(tap)
    return by_name


def check_edits(edited: Sequence[SiteEdit], rules: Rules) -> None:
    """Raise if edits cannot stand at their sites."""
    check_units(edited)
    for x in edited:
        x.edit.check(x)
        if x.edit.needs_key and rules.key is None:
            raise InputError(f"{x.edit} draws random numbers: pass rules.with_key(key).")
    for x in edited:
        if isinstance(x.edit, RegionEdit):
            check_uncut(x, [y for y in edited if y.index == x.index])


def check_uncut(unit: SiteEdit, others: Sequence[SiteEdit]) -> None:
    """Raise if one region has equations both around a loop or call, and in it."""
    for other in others:
        outer, inner = unit.group.within, other.group.within
        if (
            unit.group.label == other.group.label
            and len(outer) < len(inner)
            and inner[: len(outer)] == outer
        ):
            within = other.group.sites[0].within
            raise InputError(
                f"{unit} cuts through the body of {within[len(outer)] if within else 'a loop'}: "
                f"it has equations before or after it, and {other.group} in it. Choose one or the "
                "other."
            )


def _zeros(tap: SiteEdit, program: NamedProgram) -> list[Any]:
    """Return the zeros of a tap at one site: stacked by iteration and device of what is around."""
    axes = []
    for site in program.sites:
        if tap.group.within[: len(site.key)] == site.key:
            if site.eqn.primitive is p.scan_p:
                axes.append(site.eqn.params["length"])
            elif site.eqn.primitive is p.while_p and tap.edit.last is not None:
                axes.append(tap.edit.last)
            elif site.eqn.primitive is shard_map_p:
                mesh = site.eqn.params["mesh"]
                axes.append(math.prod(mesh.shape[x] for x in manual_axes(site.eqn.params)))
    outside = frozenset(get_abstract_mesh().manual_axes)
    differs = {x for v in (*tap.group.inputs, *tap.group.outputs) for x in varying(v)} & outside

    def zero(t: Any) -> Any:
        z = jnp.zeros((*axes, *t.shape), t.dtype)
        return lax.pcast(z, tuple(differs), to="varying") if differs else z

    return jax.tree.map(zero, tap.edit.types(tap))
