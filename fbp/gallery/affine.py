"""Affine layers y = product(x, w) + b as sites, where x depends on the differentiated input, and w
and b do not: what relevance is propagated through as one unit, in any framework's model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import Var
from jax.extend.core import primitives as p
from jaxtyping import Array

import fbp
from fbp.autodiff.avals import differentiable
from fbp.autodiff.edits.kinds import RegionEdit, required_body
from fbp.autodiff.edits.program import NamedProgram
from fbp.autodiff.edits.selectors import Selector, selector
from fbp.autodiff.edits.site_primitive import SiteEdit, read_operands
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.restage import CALLS, Key, Site, bodies, body_operands, carried, site_of
from fbp.autodiff.rule import Applied, Call
from fbp.errors import InputError
from fbp.gallery.uses import PRODUCTS


class Affine(NamedTuple):
    """A layer in the backward pass: `run(x, w, b)` is its output, r the relevance of that."""

    run: Callable[[Array, Array, Sequence[Array]], Array]
    x: Array
    w: Array
    b: Sequence[Array]
    r: Array

    def term(self, x: Array, w: Array, b: Sequence[Array]) -> tuple[Array, Callable]:
        """Return the output of changed operands, and s -> x * (the pullback of s to x)."""
        z, pullback = fbp.vjp(lambda x: self.run(x, w, b), x)
        return z, lambda s: x * pullback(s)[0]


Rule = Callable[[Affine], Array]
Entry = tuple[Any, Rule]


@dataclass(frozen=True, eq=False)
class Unit:
    """The equations of a layer, by key, its operands, and the rule that holds there."""

    keys: tuple[Key, ...]
    x: Var
    w: Var
    rule: Rule


@dataclass(frozen=True)
class AffineLayers(Selector):
    """Chooses affine layers, each with the rule of the first entry whose site it is in."""

    entries: tuple[Entry, ...]
    units: Mapping[Key, Unit] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return "affine_layers()"

    def resolve(self, program: NamedProgram) -> Selector:
        """Find the layers of a program."""
        active = {v for v in program.graph.invars if differentiable(v.aval)}
        dependent(program.graph, None, active)
        layers = list(affine_layers(program, active))
        by_key = {site.key: site for site in program.sites}
        chosen = [self._numbers(site, program, layers, by_key) for site, _ in self.entries]
        units = {}
        for i, (keys, x, w) in enumerate(layers):
            rules = [r for (_, r), among in zip(self.entries, chosen, strict=True) if i in among]
            if rules:
                units |= dict.fromkeys(keys, Unit(keys, x, w, rules[0]))
        return replace(self, units=units)

    def _numbers(
        self, site: Any, program: NamedProgram, layers: list, by_key: Mapping[Key, Site]
    ) -> set[int]:
        """Return the numbers of the layers that an entry is for."""
        everything = range(len(layers))
        if site is None:
            return set(everything)
        if isinstance(site, int):
            chosen = {site % len(layers)} if -len(layers) <= site < len(layers) else set()
        else:
            resolved = selector(site).resolve(program)
            chosen = {i for i in everything if resolved.match(by_key[layers[i][0][0]])[0]}
        if not chosen:
            lines = ", ".join(by_key[keys[0]].source for keys, _, _ in layers)
            raise InputError(f"no affine layer is chosen by {site!r}: there are those at {lines}.")
        return chosen

    def match(self, site: Site) -> tuple[bool, bool]:
        """Say whether an equation is part of a layer."""
        return site.key in self.units, site.key in self.units

    def group(self, site: Site) -> Any:
        """Return the layer."""
        return self.units[site.key]


def dependent(graph: Graph, around: Site | None, active: set[Var]) -> None:
    """Add to a set of values all that depends on them, also in bodies."""
    for i, eqn in enumerate(graph.eqns):
        if active.isdisjoint(v for v in eqn.invars if isinstance(v, Var)):
            continue
        site = site_of(eqn, i, around)
        for body in bodies(site):
            pairs = list(zip(body_operands(body), body.graph.invars, strict=True))
            active.update(v for a, v in pairs if isinstance(a, Var) and a in active)
            dependent(body.graph, body.around, active)
            if loop := carried(body):  # what an iteration hands to the next
                active.update(pairs[i][1] for i in loop)
                dependent(body.graph, body.around, active)
        if eqn.primitive in CALLS and len(bodies(site)) == 1:
            (body,) = bodies(site)
            results = zip(eqn.outvars, body.graph.outvars, strict=True)
            active.update(v for v, w in results if isinstance(w, Var) and w in active)
        else:
            active.update(eqn.outvars)


def affine_layers(
    program: NamedProgram, active: set[Var], graph: Graph | None = None, around: Site | None = None
) -> Any:
    """Yield the layers of a program and its bodies: the keys of the equations, x and w."""
    graph = program.graph if graph is None else graph
    for i, eqn in enumerate(graph.eqns):
        site = site_of(eqn, i, around)
        operands = [v for v in eqn.invars if isinstance(v, Var)]
        read = [v for v in operands if v in active]
        if is_product(eqn, program.moving) and len(read) == 1 and len(operands) == 2:
            (w,) = (v for v in operands if v not in active)
            numbers = [i, *biases(graph, i, active, program.moving)]
            yield tuple(site_of(graph.eqns[n], n, around).key for n in numbers), read[0], w
        else:
            for body in bodies(site):
                yield from affine_layers(program, active, body.graph, body.around)


def is_product(eqn: JaxprEqn, moving: frozenset) -> bool:
    """Test whether an equation is a product, or a jit of one and of what moves entries."""
    if eqn.primitive is not p.jit_p:
        return eqn.primitive in PRODUCTS
    inside = eqn.params["jaxpr"].eqns
    products = [e for e in inside if is_product(e, moving)]
    return len(products) == 1 and all(e is products[0] or e.primitive in moving for e in inside)


def biases(graph: Graph, number: int, active: set[Var], moving: frozenset) -> list[int]:
    """Return the equations from a product to the sum with a bias, if that is all it is read by."""
    (value,), passed = graph.eqns[number].outvars, []
    while value not in [v for v in graph.outvars if isinstance(v, Var)]:
        readers = [i for i, e in enumerate(graph.eqns) if value in map(as_var, e.invars)]
        if len(readers) != 1:
            return []
        eqn = graph.eqns[readers[0]]
        others = [v for v in eqn.invars if as_var(v) is not value]
        if eqn.primitive in moving and not others:
            passed.append(readers[0])
            (value,) = eqn.outvars
        elif eqn.primitive is p.add_p and len(others) == 1:
            is_bias = isinstance(others[0], Var) and others[0] not in active
            return [*passed, readers[0]] if is_bias else []
        else:
            return []
    return []


def as_var(v: Any) -> Var | None:
    """Return a variable, and None for a literal."""
    return v if isinstance(v, Var) else None


@dataclass(frozen=True)
class AffineEdit(RegionEdit):
    """The rules of affine layers: from the relevance of the output to that of x."""

    def __repr__(self) -> str:
        return f"relevance({self.site})"

    def apply(self, call: Call, edited: SiteEdit, args: list[Any]) -> Applied:
        """Pull back by the rule of the layer."""
        unit, inputs = edited.group.label, edited.group.inputs
        body, consts = required_body(call), call.params["layout"].num_consts
        first = read_operands(call.params, args).ins[:consts]
        rest = [v for v in inputs if v is not unit.x and v is not unit.w]

        def run(x: Array, w: Array, b: Sequence[Array]) -> Array:
            values = dict(zip([unit.x, unit.w, *rest], [x, w, *b], strict=True))
            return eval_graph(body, [*first, *(values[v] for v in inputs)])[0]

        def pullback(cts: list[Any], _: Any, ins: list[Any]) -> list[Any]:
            values = dict(zip(inputs, map(jnp.asarray, ins), strict=True))
            b = [values[v] for v in rest]
            relevance = unit.rule(Affine(run, values[unit.x], values[unit.w], b, cts[0]))
            return [relevance if v is unit.x else None for v in inputs]

        return RegionEdit(self.site, pullback).apply(call, edited, args)
