"""A program run forward while it is watched: what a measure says of each equation comes out.

The records travel with the values, as one more carry of every loop and one more output of every
branch. So they come out of scan, while_loop and cond under jit and vmap, without callbacks: the
program that is watched is compiled, and computes what it computed before.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import get_abstract_mesh

from fbp.autodiff import graph as g
from fbp.autodiff import interpret
from fbp.autodiff.avals import struct
from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import Environment
from fbp.autodiff.restage import CALLS, Body, Key, Site, bodies, manual_axes, restage, site_of
from fbp.autodiff.restage import walk as sites
from fbp.autodiff.table import RULES

Records = dict[Key, "Seen"]

COMBINERS = RULES.tagged("combines")


class Seen(NamedTuple):
    """What a measure said of an equation, if it ran at all."""

    ran: Any
    record: Any


Measure = Callable[[Site, Sequence[Any], Sequence[Any], tuple[Any, ...]], Any]
Merge = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Watch:
    """What is written down at each equation, and how two runs of one equation become one record.

    `measure(site, ins, outs, iteration)` gives a pytree of arrays, or None for nothing;
    `iteration` holds the counter of each loop around. `merge(before, now)` joins the records of
    two iterations.
    """

    measure: Measure
    merge: Merge


def observe(
    graph: Graph,
    args: Sequence[Any],
    watch: Watch,
    around: Site | None = None,
    iteration: tuple = (),
) -> tuple[list[Any], Records]:
    """Run the program; its outputs, and the records of its equations and of those inside them."""
    env, records = Environment(graph, args), {}
    for i, eqn in enumerate(graph.eqns):
        site = site_of(eqn, i, around)
        ins = env.read(eqn.invars)
        outs, inside = _apply(site, ins, watch, iteration)
        records |= inside
        record = watch.measure(site, ins, outs, iteration)
        if record is not None:
            records[site.key] = _varying(Seen(jnp.array(True), record))
        env.write(eqn.outvars, outs)
    return env.results(graph), records


def opaque(graph: Graph) -> list[Site]:
    """Return the equations that hold a program, or code of another kind, that nothing here looks
    into: kernels, callbacks, calls of foreign functions."""
    return [
        site
        for site in sites(graph)
        if not bodies(site)
        and site.eqn.primitive not in COMBINERS
        and (g.holds_program(site.eqn) or calls_out(site.eqn))
    ]


def calls_out(eqn: JaxprEqn) -> bool:
    """Return whether an equation runs code that is no program of JAX: a callback, or a foreign
    call.

    Each has its results' types among its parameters, and gives these whatever it gets.
    """
    return "result_avals" in eqn.params


def _apply(
    site: Site, ins: Sequence[Any], watch: Watch, iteration: tuple
) -> tuple[list[Any], Records]:
    """Run one equation, watched if programs lie inside it. The records are the state of its
    bodies, with the number of the iteration."""
    eqn, programs = site.eqn, bodies(site)
    if not programs:
        return interpret.bind(eqn, ins), {}
    if eqn.primitive in CALLS:
        with interpret.eqn_scope(eqn):
            return observe(programs[0].graph, ins, watch, site, iteration)
    in_loop, on_devices = programs[0].around.loops > site.loops, eqn.primitive is shard_map_p

    def watched(body: Body, ins: Sequence[Any]) -> tuple[list[Any], Records]:
        around = (*iteration, body.iteration) if in_loop else iteration
        return observe(body.graph, ins, watch, body.around, around)

    def run(body: Body, ins: Sequence[Any], records: Records, _: Any) -> tuple[list, Records]:
        outs, now = watched(body, ins)
        return outs, records | (_merged(watch.merge, records, now) if in_loop else now)

    blank = {} if on_devices else _nothing(programs, watched)
    outs, records = restage(site, ins, run, blank, numbered=True)
    return outs, _of_devices(eqn, records, watch.merge) if on_devices else records


def _of_devices(eqn: JaxprEqn, rows: Records, merge: Merge) -> Records:
    """Merge the records of the devices, which are rows of arrays, as those of a loop."""
    devices = math.prod(eqn.params["mesh"].shape[name] for name in manual_axes(eqn.params))
    records, *others = (jax.tree.map(lambda x, i=i: x[i], rows) for i in range(devices))
    for other in others:
        records = _merged(merge, records, other)
    return records


def _nothing(programs: Sequence[Body], watched: Callable[..., tuple[list, Records]]) -> Records:
    """Return the records of bodies that have not run."""
    types: Records = {}
    for body in programs:
        avals = [struct(v.aval) for v in body.graph.invars]
        first = body._replace(iteration=jnp.array(0, jnp.int32))
        types |= g.stage(lambda ins, body=first: watched(body, ins)[1], avals)[1]
    return _varying(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), types))


def _varying(tree: Any) -> Any:
    """Values that may differ from device to device, as far as types say: so those of a branch,
    and those of a loop before its first iteration, have one type."""
    manual = frozenset(get_abstract_mesh().manual_axes)

    def one(x: Any) -> Any:
        x = jnp.asarray(x)
        missing = manual - jax.typeof(x).mat.varying
        return lax.pcast(x, tuple(missing), to="varying") if missing else x

    return jax.tree.map(one, tree) if manual else tree


def _merged(merge: Merge, before: Records, now: Records) -> Records:
    def one(a: Seen, b: Seen) -> Seen:
        joined = merge(a.record, b.record)
        chosen = jax.tree.map(
            lambda j, x, y: jnp.where(a.ran & b.ran, j, jnp.where(b.ran, y, x)),
            joined,
            a.record,
            b.record,
        )
        return Seen(a.ran | b.ran, chosen)

    return {key: one(before[key], now[key]) for key in now}
