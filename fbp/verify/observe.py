"""A program run forward while it is watched: what a measure says of each equation comes out.

The records travel with the values, as one more carry of every loop and one more output of every
branch. So they come out of scan, while_loop and cond under jit and vmap, without callbacks: the
program that is watched is compiled, and computes what it computed before.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives as p
from jax.sharding import PartitionSpec, get_abstract_mesh

from fbp.autodiff import compat, interpret
from fbp.autodiff import graph as g
from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import Environment
from fbp.autodiff.rules.calls import COMPOSITE, CUSTOM_VMAP

Key = tuple[int, ...]
Records = dict[Key, "Seen"]

CALLS = frozenset(
    {
        *(p.jit_p, p.closed_call_p, p.call_p, p.remat_p, p.custom_jvp_call_p, p.custom_vjp_call_p),
        *(COMPOSITE, CUSTOM_VMAP),
    }
)
COMBINERS = frozenset(
    compat.named_primitives(
        *("reduce_p", "reduce_window_p", "reduce_precision_p", "reduce_and_p", "reduce_or_p"),
        *(f"scatter_{how}p" for how in ("", "add_", "sub_", "mul_", "min_", "max_")),
    )
)
"""What holds a program of two numbers, which adds or multiplies: there is nothing to look into."""


@dataclass(frozen=True, eq=False)
class Site:
    """One equation and where it lies.

    Attributes:
      key: the numbers of the equations around it, from the outside, and its own; after that of a
        cond comes the number of the branch.
      eqn: the equation.
      within: the names of the equations around it.
      loops: how many of those are loops.
    """

    key: Key
    eqn: JaxprEqn
    within: tuple[str, ...] = ()
    loops: int = 0

    @property
    def source(self) -> str:
        """`file:line (function)` of the code that made the equation."""
        return g.source(self.eqn)

    @property
    def name(self) -> str:
        """The primitive; of a call, what it calls too."""
        called = self.eqn.params.get("name")
        return f"{self.eqn.primitive} {called}" if called else str(self.eqn.primitive)


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


def sites(graph: Graph, around: Site | None = None) -> Iterator[Site]:
    """All equations, those inside others too, in the order in which they run."""
    for i, eqn in enumerate(graph.eqns):
        site = site_of(eqn, i, around)
        yield site
        for inside, body in bodies(site):
            yield from sites(body, inside)


def site_of(eqn: JaxprEqn, number: int, around: Site | None) -> Site:
    """Where an equation lies: its number in the program that `around` holds."""
    if around is None:
        return Site((number,), eqn)
    return Site((*around.key, number), eqn, (*around.within, around.name), around.loops)


def opaque(graph: Graph) -> list[Site]:
    """The equations that hold a program, or code of another kind, that nothing here looks into:
    kernels, callbacks, calls of foreign functions."""
    return [
        site
        for site in sites(graph)
        if not bodies(site)
        and site.eqn.primitive not in COMBINERS
        and (any(map(holds_program, site.eqn.params.values())) or calls_out(site.eqn))
    ]


def holds_program(param: Any) -> bool:
    """Whether a parameter of an equation is a program, or holds one."""
    if isinstance(param, tuple | list):
        return any(map(holds_program, param))
    return hasattr(param, "eqns") or hasattr(param, "jaxpr")


def calls_out(eqn: JaxprEqn) -> bool:
    """Whether an equation runs code that is no program of JAX: a callback, or a foreign call.

    Each has its results' types among its parameters, and gives these whatever it gets.
    """
    return "result_avals" in eqn.params


def bodies(site: Site) -> list[tuple[Site, Graph]]:
    """The programs in an equation, each with the site around it."""
    eqn, params = site.eqn, site.eqn.params
    if eqn.primitive in CALLS or eqn.primitive is shard_map_p:
        return [(site, g.body(params))]
    if eqn.primitive is p.scan_p:
        return [(Site(site.key, eqn, site.within, site.loops + 1), g.body(params))]
    if eqn.primitive is p.while_p:
        inside = Site(site.key, eqn, site.within, site.loops + 1)
        return [(inside, g.from_jaxpr(params["body_jaxpr"]))]
    if eqn.primitive is p.cond_p:
        return [
            (Site((*site.key, i), eqn, site.within, site.loops), g.from_jaxpr(branch))
            for i, branch in enumerate(params["branches"])
        ]
    return []


def _apply(
    site: Site, ins: Sequence[Any], watch: Watch, iteration: tuple
) -> tuple[list[Any], Records]:
    """Run one equation, watched if programs lie inside it."""
    eqn = site.eqn
    if eqn.primitive in CALLS:
        with interpret.scope(eqn):
            return observe(g.body(eqn.params), ins, watch, site, iteration)
    if eqn.primitive in LOOPS_AND_BRANCHES:
        with interpret.scope(eqn):
            return LOOPS_AND_BRANCHES[eqn.primitive](site, ins, watch, iteration)
    return interpret.bind(eqn, ins), {}


def _scan(site: Site, ins: Sequence[Any], watch: Watch, iteration: tuple) -> tuple[list, Records]:
    params = site.eqn.params
    num_consts, num_carry = compat.scan_counts(params)
    consts, init, xs = ins[:num_consts], ins[num_consts:][:num_carry], ins[num_consts + num_carry :]
    ((inside, body),) = bodies(site)
    length = params["length"]

    def run(number: Any, carry: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], Records]:
        return observe(body, (*consts, *carry, *x), watch, inside, (*iteration, number))

    def step(state: tuple, numbered: tuple) -> tuple:
        (carry, records), (number, x) = state, numbered
        outs, now = run(number, carry, x)
        return (outs[:num_carry], _merged(watch.merge, records, now)), outs[num_carry:]

    before = _nothing(lambda: run(jnp.array(0), init, [_first(x) for x in xs])[1])
    (carry, records), ys = lax.scan(
        step,
        ([_strong(x) for x in init], before),
        (jnp.arange(length), list(xs)),
        length=length,
        reverse=params["reverse"],
    )
    return [*carry, *ys], records


def _while(site: Site, ins: Sequence[Any], watch: Watch, iteration: tuple) -> tuple[list, Records]:
    params = site.eqn.params
    split, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    cond_consts, body_consts, init = ins[:split], ins[split:end], ins[end:]
    ((inside, body),) = bodies(site)
    condition = g.from_jaxpr(params["cond_jaxpr"])

    def run(number: Any, carry: Sequence[Any]) -> tuple[list[Any], Records]:
        return observe(body, (*body_consts, *carry), watch, inside, (*iteration, number))

    def step(state: tuple) -> tuple:
        number, carry, records = state
        outs, now = run(number, carry)
        return number + 1, outs, _merged(watch.merge, records, now)

    def goes_on(state: tuple) -> Any:
        (more,) = interpret.evaluate(condition, (*cond_consts, *state[1]))
        return jnp.any(more)

    before = _nothing(lambda: run(jnp.array(0), init)[1])
    _, carry, records = lax.while_loop(
        goes_on, step, (jnp.array(0), [_strong(x) for x in init], before)
    )
    return carry, records


def _cond(site: Site, ins: Sequence[Any], watch: Watch, iteration: tuple) -> tuple[list, Records]:
    index, *operands = ins
    programs = bodies(site)

    def runs(inside: Site, body: Graph) -> Callable[..., tuple[list[Any], Records]]:
        return lambda *operands: observe(body, operands, watch, inside, iteration)

    branches = [runs(*b) for b in programs]
    blank = [_nothing(lambda run=run: run(*operands)[1]) for run in branches]

    def recorded(i: int) -> Callable[..., tuple[list[Any], list[Records]]]:
        def branch(*operands: Any) -> tuple[list[Any], list[Records]]:
            outs, now = branches[i](*operands)
            return outs, [*blank[:i], now, *blank[i + 1 :]]

        return branch

    outs, records = lax.switch(index, [recorded(i) for i in range(len(programs))], *operands)
    return outs, {key: seen for some in records for key, seen in some.items()}


def _shard_map(
    site: Site, ins: Sequence[Any], watch: Watch, iteration: tuple
) -> tuple[list, Records]:
    """Each device's records come out as rows of one array, and are merged as those of a loop."""
    params = site.eqn.params
    ((_, body),) = bodies(site)
    names = params["newly_manual_axes"]
    axes = tuple(name for name in params["mesh"].axis_names if name in names)

    def local(ins: Sequence[Any], iteration: tuple) -> tuple[list[Any], Records]:
        outs, records = observe(body, ins, watch, site, iteration)
        return outs, jax.tree.map(lambda x: jnp.asarray(x)[None], records)

    outs, rows = jax.shard_map(
        local,
        mesh=params["mesh"],
        axis_names=set(names),
        check_vma=params["check_vma"],
        in_specs=(list(params["in_specs"]), PartitionSpec()),
        out_specs=(list(params["out_specs"]), PartitionSpec(axes)),
    )([jnp.asarray(x) for x in ins], iteration)
    devices = math.prod(params["mesh"].shape[name] for name in axes)
    records = _row(rows, 0)
    for i in range(1, devices):
        records = _merged(watch.merge, records, _row(rows, i))
    return outs, records


def _row(records: Records, number: int) -> Records:
    return jax.tree.map(lambda x: x[number], records)


LOOPS_AND_BRANCHES = {
    p.scan_p: _scan,
    p.while_p: _while,
    p.cond_p: _cond,
    shard_map_p: _shard_map,
}


def _nothing(run: Callable[[], Records]) -> Records:
    """The records of a program that has not run."""
    shapes = jax.eval_shape(run)
    return _varying(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))


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
        kept = jax.tree.map(
            lambda j, x, y: jnp.where(a.ran & b.ran, j, jnp.where(b.ran, y, x)),
            joined,
            a.record,
            b.record,
        )
        return Seen(a.ran | b.ran, kept)

    return {key: one(before[key], now[key]) for key in now}


def _first(x: Any) -> Any:
    aval = jax.typeof(x)
    return jnp.zeros(aval.shape[1:], aval.dtype) if aval.shape[0] == 0 else x[0]


def _strong(x: Any) -> Any:
    """A carry with the type that the loop gives it: not weak."""
    return lax.convert_element_type(x, jax.typeof(x).dtype) if jnp.ndim(x) == 0 else jnp.asarray(x)
