"""Put edits into a program: one pass over the staged function, its bodies included.

Where a value leaves or enters a site that is edited there, a `site` equation takes it over; where a
site is edited as a unit, its equations become the program of one. Bodies without a chosen site are
left as they are, and so is the program if nothing is chosen.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, Var
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff import interpret
from fbp.autodiff.avals import as_array, struct
from fbp.autodiff.edits.site_primitive import Operands, SiteEdit, insert
from fbp.autodiff.edits.taps import Tap, beside
from fbp.autodiff.graph import Graph
from fbp.autodiff.restage import Body, Key, Site, bodies, restage, site_of
from fbp.errors import InputError

Number = tuple[int, int]
"""Which site of which edit: the numbers of both."""


@dataclass(frozen=True, eq=False)
class EditPlan:
    """The edits of a program, by the bodies that hold their sites."""

    by_body: Mapping[Key, list[SiteEdit]]
    selectors: Mapping[int, Any]
    key: Any

    def within(self, key: Key) -> list[SiteEdit]:
        """Return the edits in the bodies of an equation, and in those inside them."""
        return [x for k, xs in self.by_body.items() if k[: len(key)] == key for x in xs]


@dataclass(frozen=True)
class Surroundings:
    """Where a body runs: the numbers of the iterations around it, and its share of the zeros whose
    cotangents are statistics, by site."""

    iteration: tuple = ()
    zeros: Mapping[Number, Any] = field(default_factory=dict)


def run_body(
    plan: EditPlan, body: Body, ins: Sequence[Any], around: Surroundings, key: Key
) -> list[Any]:
    """Run a body with the edits in it, and return its outputs."""
    graph = body.graph
    values = dict(zip(graph.constvars, graph.consts, strict=True))
    values.update(zip(graph.invars, ins, strict=True))
    level = Level(plan, body, around, plan.by_body.get(key, []), None, values)
    level.run()
    return [as_array(level.read(v, None)) for v in graph.outvars]


Item = int | SiteEdit
"""What runs as one: an equation, by its number, or a site that is edited as a unit."""


class Level:
    """The run of a body, or of the equations of one site in it, with the edits inside.

    `values` has what is defined outside, and later what the equations compute.
    """

    def __init__(
        self,
        plan: EditPlan,
        body: Body,
        around: Surroundings,
        edited: Sequence[SiteEdit],
        unit: SiteEdit | None,
        values: dict[Var, Any],
    ):
        self.plan, self.body, self.around, self.values = plan, body, around, values
        inside = [x for x in edited if unit is None or is_inside(x, unit)]
        units = [x for x in inside if x.edit.wraps]
        self.units = [x for x in units if not any(is_inside(x, y) for y in units)]
        self.nested = inside
        self.at_boundary = [
            x
            for x in inside
            if not (x.edit.wraps or any(is_inside(x, unit) for unit in self.units))
        ]
        eqns = body.graph.eqns
        numbers = range(len(eqns)) if unit is None else sorted(unit.group.numbers)
        in_units = {i for x in self.units for i in x.group.numbers}
        self.items: list[Item] = [*(i for i in numbers if i not in in_units), *self.units]
        self.producer: dict[Var, Item] = {}
        for item in self.items:
            self.producer.update((v, item) for i in members(item) for v in eqns[i].outvars)
        self.passed: dict[tuple, Any] = {}

    def run(self) -> None:
        """Run all items, the equations in their order as far as the sites allow."""
        for item in topological_order(self.items, self.body.graph) if self.units else self.items:
            if isinstance(item, SiteEdit):
                self.run_unit(item)
            else:
                self.run_equation(item)

    def read(self, atom: Any, item: Item | None) -> Any:
        """Return a value as an item, or what is outside, reads it: past the edits of the sites that
        it leaves on the way, then of those that it enters."""
        if isinstance(atom, Literal):
            return atom.val
        source, (start, *_) = self.producer.get(atom), members(item) or [None]
        (origin, *_) = members(source) or [None]
        leaves, enters = [], []
        for x in self.at_boundary:
            is_from, is_to = origin in x.group.numbers, start in x.group.numbers
            if is_from and not is_to and x.edit.of != "inputs":
                leaves.append(x)
            elif is_to and not is_from and x.edit.of == "inputs":
                enters.append(x)
        leaves.sort(key=lambda x: (len(x.group.numbers), -x.index))
        enters.sort(key=lambda x: (-len(x.group.numbers), -x.index))
        passed, value = (atom,), self.values[atom]
        for x in (*leaves, *enters):
            passed = (*passed, x)
            if passed not in self.passed:
                self.passed[passed] = self.past(x, atom, value)
            value = self.passed[passed]
        return value

    def past(self, edited: SiteEdit, variable: Var, value: Any) -> Any:
        """Return a value past an edit at the boundary of a site."""
        edit, group = edited.edit, edited.group
        value = as_array(value)
        with interpret.eqn_scope(group.sites[-1].eqn):
            if edit.of == "values":
                return edit.replaced(value, self.mask(edited), edited)
            values = group.values(edit.of)
            if variable not in values:
                return value
            operands = self.operands(edited, [value], values.index(variable))
            return insert(edited, operands)[0]

    def run_equation(self, number: int) -> None:
        """Run an equation, and inside it the edits of sites in its bodies."""
        eqn = self.body.graph.eqns[number]
        around = self.body.around if self.body.around.key else None
        site = site_of(eqn, number, around)
        ins = [self.read(a, number) for a in eqn.invars]
        inside = self.plan.within(site.key) if bodies(site) else []
        outs = run_inside(self.plan, site, ins, inside, self.around) if inside else None
        self.values.update(
            zip(eqn.outvars, interpret.bind(eqn, ins) if outs is None else outs, strict=True)
        )

    def run_unit(self, edited: SiteEdit) -> None:
        """Run a site that is edited as a unit, by an equation that holds it as a program."""
        group = edited.group
        ins, outs = group.inputs, group.outputs
        values = [as_array(self.read(v, edited)) for v in ins]

        def program(*args: Any) -> list[Any]:
            level = Level(
                self.plan,
                self.body,
                self.around,
                self.nested,
                edited,
                dict(zip(ins, args, strict=True)),
            )
            level.run()
            return [as_array(level.read(v, None)) for v in outs]

        with interpret.eqn_scope(group.sites[-1].eqn):
            body, _ = g.stage(without_name(program), *map(struct, values))
            results = insert(edited, self.operands(edited, values, None), body)
        self.values.update(zip(outs, results, strict=True))

    def operands(self, edited: SiteEdit, ins: list[Any], index: int | None) -> Operands:
        """Return what the equation of an edit reads; `index` is the number of the value at the
        site's boundary."""
        key = None
        if edited.edit.needs_key:
            key = jax.random.fold_in(self.plan.key, edited.index)
            for number in (edited.number, index or 0):
                key = jax.random.fold_in(key, number)
        zeros = self.around.zeros.get((edited.index, edited.number), ())
        return Operands(
            ins,
            self.mask(edited),
            key,
            () if key is None else self.around.iteration,
            zeros[index or 0] if zeros else (),
        )

    def mask(self, edited: SiteEdit) -> Any:
        """Return whether the site is chosen in this iteration; None for always."""
        if edited.group.always:
            return None
        selector = self.plan.selectors[edited.index]
        return selector.mask(edited.group.sites[0], self.around.iteration)


def without_name(program: Any) -> Any:
    """Return a function under the name that profiles and errors show for a site."""
    program.__name__ = program.__qualname__ = "site"
    return program


def run_inside(
    plan: EditPlan, site: Site, ins: Sequence[Any], inside: Sequence[SiteEdit], around: Surroundings
) -> list[Any]:
    """Run an equation whose bodies hold sites; each body gets its share of the zeros."""
    in_loop = bodies(site)[0].around.loops > site.loops
    counted = in_loop and any(x.edit.needs_key or not x.group.always for x in inside)
    mine = {(x.index, x.number): x.edit for x in inside}
    zeros = {number: z for number, z in around.zeros.items() if number in mine}
    check_lanes(site, inside)
    last = {number: k for number in zeros if (k := mine[number].last) is not None}
    last = last if site.eqn.primitive is p.while_p else {}
    length = iterations(site, ins) if last else 0

    def run(body: Body, ins: Sequence[Any], state: Any, part: Any) -> tuple[list[Any], Any]:
        iteration = (*around.iteration, body.iteration) if counted else around.iteration
        part = [
            row(z, last[number], length - 1 - body.iteration) if number in last else z
            for number, z in zip(zeros, part, strict=True)
        ]
        share = replace(around, iteration=iteration, zeros=dict(zip(zeros, part, strict=True)))
        return run_body(plan, body, ins, share, body.around.key), state

    if site.eqn.primitive in g.USER_FUNCTIONS and all(isinstance(x.edit, Tap) for x in inside):
        (body,) = bodies(site)
        return beside(
            site.eqn,
            list(map(as_array, ins)),
            tuple(zeros.values()),
            lambda ins, zeros: run(body, ins, (), zeros)[0],
        )
    numbered = counted or bool(last)
    return restage(site, ins, run, parts=tuple(zeros.values()), numbered=numbered)[0]


def check_lanes(site: Site, inside: Sequence[SiteEdit]) -> None:
    """Raise if random numbers would go into a batch of while_loops, of which a lane that has ended
    has a cotangent of zero and must keep it."""
    drawing = [x for x in inside if x.edit.needs_key]
    is_loop = site.eqn.primitive is p.while_p
    if drawing and is_loop and g.from_jaxpr(site.eqn.params["cond_jaxpr"]).outvars[0].aval.shape:
        raise InputError(
            f"{drawing[0]}: the loop runs under jax.vmap, and would draw for examples whose loop "
            "has ended too: take a vmap of the gradient."
        )


def iterations(site: Site, ins: Sequence[Any]) -> Any:
    """Return how many iterations a while_loop takes, by running it."""

    def run(body: Body, ins: Sequence[Any], number: Any, _: Any) -> tuple[list[Any], Any]:
        return interpret.eval_graph(body.graph, ins), number + 1

    return restage(site, ins, run, np.int32(0))[1]


def row(zeros: Any, length: int, number: Any) -> Any:
    """Return row `number` of arrays of `length` rows; zeros beyond them."""
    index = jnp.minimum(number, length - 1)
    return jax.tree.map(lambda z: jnp.where(number < length, z[index], jnp.zeros_like(z[0])), zeros)


def is_inside(a: SiteEdit, b: SiteEdit) -> bool:
    """Test whether a site lies within a unit. Of two edits of one site the taps are outside, then
    the earlier one; what stands at the boundary is outside of the unit."""
    x, y = a.group.numbers, b.group.numbers
    if a is b or not x <= y or a.group.within != b.group.within:
        return False
    return x < y or (a.edit.wraps and rank(a) > rank(b))


def rank(edited: SiteEdit) -> tuple[bool, int]:
    """Return the order of units of one site, from the outside."""
    return edited.edit.exclusive, edited.index


def members(item: Item | None) -> list[int]:
    """Return the numbers of an item's equations."""
    if item is None:
        return []
    return sorted(item.group.numbers) if isinstance(item, SiteEdit) else [item]


def topological_order(items: Sequence[Item], graph: Graph) -> list[Item]:
    """Return the items such that each comes after what it reads, and else in their order."""
    numbers = [(n, i) for n, item in enumerate(items) for i in members(item)]
    producer = {v: n for n, i in numbers for v in graph.eqns[i].outvars}
    last = [max(members(item)) for item in items]
    readers: list[set[int]] = [set() for _ in items]
    waits: list[set[int]] = [set() for _ in items]
    effect = None
    for n in sorted(range(len(items)), key=lambda n: last[n]):
        eqns = [graph.eqns[i] for i in members(items[n])]
        sources = {producer[v] for v in g.variables(*(e.invars for e in eqns)) if v in producer}
        if any(e.effects for e in eqns):  # prints and checks stay in their order
            sources |= set() if effect is None else {effect}
            effect = n
        waits[n] = sources - {n}
        for m in waits[n]:
            readers[m].add(n)
    ready = [(last[n], n) for n in range(len(items)) if not waits[n]]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, n = heapq.heappop(ready)
        ordered.append(items[n])
        for m in readers[n]:
            waits[m].discard(n)
            if not waits[m]:
                heapq.heappush(ready, (last[m], m))
    if len(ordered) < len(items):
        (blocked, *_) = [x for n, x in enumerate(items) if waits[n] and isinstance(x, SiteEdit)]
        raise InputError(
            f"{blocked} is not one unit: values leave the site and come back to it. Choose a "
            "smaller site, or one that holds what is between."
        )
    return ordered


def check_units(edited: Sequence[SiteEdit]) -> None:
    """Raise if units overlap without one being inside the other, or two pullbacks are stated for
    one site."""
    for i, a in enumerate(edited):
        for b in edited[i + 1 :]:
            x, y = a.group.numbers, b.group.numbers
            if a.group.within != b.group.within or not (a.edit.wraps or b.edit.wraps):
                continue
            partly = not (x.isdisjoint(y) or x <= y or y <= x)
            if partly or (x == y and a.edit.exclusive and b.edit.exclusive):
                raise InputError(
                    f"{a} and {b} overlap: a site that is one unit has one pullback. Choose sites "
                    "that are apart, or one inside the other."
                )
