"""Walk through a program, and run an equation again with other bodies.

This is the one module that knows how scan, while, cond, jit, checkpoint, the calls of custom rules
and shard_map hold programs. `walk` yields every equation with its path and the named scopes around
it: those of a body's equations are relative to the equation that holds the body. `restage` runs an
equation whose bodies are run by a function, under whatever transformation is in force: a scan
stays a scan. What the function reads from outside of a body becomes a constant of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.extend.core import primitives as p
from jax.sharding import PartitionSpec

from fbp.autodiff import graph as g
from fbp.autodiff import interpret
from fbp.autodiff.avals import as_array, struct
from fbp.autodiff.compat import scan_counts, scopes
from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.graph import Graph, JaxprEqn

Key = tuple[int, ...]
Params = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Site:
    """One equation and where it lies.

    Attributes:
      key: the numbers of the equations around it, from the outside, and its own; after that of a
        cond comes the number of the branch.
      eqn: the equation.
      within: the names of the equations around it.
      loops: how many of those are loops.
      around: the named scopes in which those stand.
    """

    key: Key
    eqn: JaxprEqn
    within: tuple[str, ...] = ()
    loops: int = 0
    around: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Return `file:line (function)` of the code that made the equation."""
        return g.source(self.eqn)

    @property
    def name(self) -> str:
        """Return the primitive; of a call, what it calls too."""
        called = self.eqn.params.get("name")
        return f"{self.eqn.primitive} {called}" if called else str(self.eqn.primitive)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the named scopes in which the equation stands, from the outside."""
        return (*self.around, *scopes(self.eqn))


class Body(NamedTuple):
    """A program that an equation holds, the equation, as what is around the body, and on demand,
    while a loop runs, the number of the iteration."""

    around: Site
    graph: Graph
    iteration: Any = None


def walk(graph: Graph, around: Site | None = None) -> Iterator[Site]:
    """Yield all equations, those inside others too, in the order in which they run."""
    for i, eqn in enumerate(graph.eqns):
        site = site_of(eqn, i, around)
        yield site
        for body in bodies(site):
            yield from walk(body.graph, body.around)


def site_of(eqn: JaxprEqn, number: int, around: Site | None) -> Site:
    """Return where an equation lies: its number in the program that `around` holds."""
    if around is None:
        return Site((number,), eqn)
    within = (*around.within, around.name)
    return Site((*around.key, number), eqn, within, around.loops, around.scopes)


def bodies(site: Site) -> list[Body]:
    """Return the programs that an equation runs, each with the site around it; not the condition
    of a while_loop."""
    eqn, params = site.eqn, site.eqn.params
    if eqn.primitive in CALLS or eqn.primitive is shard_map_p:
        return [Body(site, g.body(params))]
    if eqn.primitive is p.scan_p or eqn.primitive is p.while_p:
        jaxpr = params["jaxpr" if eqn.primitive is p.scan_p else "body_jaxpr"]
        inside = Site(site.key, eqn, site.within, site.loops + 1, site.around)
        return [Body(inside, g.from_jaxpr(jaxpr))]
    if eqn.primitive is p.cond_p:
        return [
            Body(
                Site((*site.key, i), eqn, site.within, site.loops, site.around),
                g.from_jaxpr(branch),
            )
            for i, branch in enumerate(params["branches"])
        ]
    return []


def body_operands(body: Body) -> list[Any]:
    """Return what the inputs of a body are at first: operands of the equation that holds it."""
    eqn = body.around.eqn
    first = {p.while_p: eqn.params.get("cond_nconsts", 0), p.cond_p: 1}.get(eqn.primitive, 0)
    return list(eqn.invars[first:])


def carried(body: Body) -> range:
    """Return the numbers of the inputs of a body that a loop carries."""
    params = body.around.eqn.params
    if body.around.eqn.primitive is p.scan_p:
        num_consts, num_carry = scan_counts(params)
        return range(num_consts, num_consts + num_carry)
    if body.around.eqn.primitive is p.while_p:
        return range(params["body_nconsts"], len(body.graph.invars))
    return range(0)


Run = Callable[[Body, Sequence[Any], Any, Any], tuple[list[Any], Any]]
"""`run(body, ins, state, part)` returns the outputs of a body, and the next state."""


def restage(
    site: Site,
    ins: Sequence[Any],
    run: Run,
    state: Any = (),
    parts: Any = (),
    condition: Callable[[Graph, Sequence[Any]], list[Any]] = interpret.eval_graph,
    numbered: bool = False,
) -> tuple[list[Any], Any]:
    """Run an equation, with its bodies run by `run`.

    Args:
      site: the equation, which holds programs.
      ins: its operands.
      run: runs a body.
      state: a pytree that goes through the bodies: carried by a loop, returned by a branch or a
        call. Each device of a shard_map returns its own, as rows of one array.
      parts: a pytree of arrays with a leading axis, one entry for each iteration of a scan, or each
        device of a shard_map, whose body gets its entry; any other body gets all of it.
      condition: runs the condition of a while_loop.
      numbered: whether the body of a loop gets the number of its iteration, that of a scan counted
        along xs.

    Returns:
      The outputs, and the last state.
    """
    with interpret.eqn_scope(site.eqn):
        if site.eqn.primitive is p.while_p:
            return _while(site, ins, run, state, parts, condition, numbered)
        if site.eqn.primitive is p.scan_p:
            return _scan(site, ins, run, state, parts, numbered)
        return RESTAGED[site.eqn.primitive](site, ins, run, state, parts)


def _inline(
    site: Site, ins: Sequence[Any], run: Run, state: Any, parts: Any
) -> tuple[list[Any], Any]:
    """Run the body in the place of a call; that of a function with a custom rule, without it."""
    (body,) = bodies(site)
    return run(body, ins, state, parts)


def _jit(site: Site, ins: Sequence[Any], run: Run, state: Any, parts: Any) -> tuple[list, Any]:
    (body,) = bodies(site)
    types = [struct(x) for x in map(as_array, ins)]
    staged, (outs, state) = g.stage(lambda ins, state: run(body, ins, state, parts), types, state)
    results = interpret.eval_graph(jitted(staged, site.eqn.params), [*ins, *jax.tree.leaves(state)])
    num_outs = len(jax.tree.leaves(outs))
    return results[:num_outs], jax.tree.unflatten(jax.tree.structure(state), results[num_outs:])


def jitted(program: Graph, params: Params) -> Graph:
    """Return the jit of a program with these parameters, those by operand for its first
    operands."""
    graph = g.in_one_equation(program, JIT, 0.0)
    (eqn,) = graph.eqns
    chosen = {key: value for key, value in params.items() if key != "jaxpr"}
    for key, (default,) in ((key, eqn.params[key]) for key in BY_OPERAND):
        operands = eqn.outvars if key.startswith("out") else eqn.invars[len(program.constvars) :]
        defaulted = [*params[key], *(None for _ in operands)]
        values = [default if x is None else x for x, _ in zip(defaulted, operands, strict=False)]
        others = () if key.startswith("out") else (default for _ in program.constvars)
        chosen[key] = (*others, *values)
    return Graph(
        graph.invars,
        graph.outvars,
        (eqn.replace(params=eqn.params | chosen),),
        graph.constvars,
        graph.consts,
    )


def _checkpoint(
    site: Site, ins: Sequence[Any], run: Run, state: Any, parts: Any
) -> tuple[list[Any], Any]:
    (body,), params = bodies(site), site.eqn.params
    again = jax.checkpoint(
        lambda ins, state: run(body, ins, state, parts),
        prevent_cse=any(jax.tree.leaves(params["prevent_cse"])),  # one bool, or one per input
        policy=params["policy"],
    )
    return again([as_array(x) for x in ins], state)


def _scan(
    site: Site, ins: Sequence[Any], run: Run, state: Any, parts: Any, numbered: bool
) -> tuple[list[Any], Any]:
    (body,), params = bodies(site), site.eqn.params
    num_consts, num_carry = scan_counts(params)
    ins = _operands(site, ins)
    consts, init, xs = ins[:num_consts], ins[num_consts:][:num_carry], ins[num_consts + num_carry :]

    def step(carried: tuple, sliced: tuple) -> tuple:
        (carry, state), (x, part, number) = carried, sliced
        outs, state = run(body._replace(iteration=number), (*consts, *carry, *x), state, part)
        return (outs[:num_carry], state), outs[num_carry:]

    settings = {key: params[key] for key in ("length", "reverse", "unroll")}
    numbers = lax.iota(np.int32, params["length"]) if numbered else None
    (carry, state), ys = lax.scan(step, (init, state), (xs, parts, numbers), **settings)
    return [*carry, *ys], state


def _while(
    site: Site,
    ins: Sequence[Any],
    run: Run,
    state: Any,
    parts: Any,
    condition: Callable,
    numbered: bool,
) -> tuple[list[Any], Any]:
    (body,), params = bodies(site), site.eqn.params
    ins = _operands(site, ins)
    split, end = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    test = g.from_jaxpr(params["cond_jaxpr"])
    of_lanes = bool(test.outvars[0].aval.shape)

    def goes_on(carry: Sequence[Any]) -> Any:
        return condition(test, (*ins[:split], *carry))[0]

    def step(carried: tuple) -> tuple:
        carry, state, number = carried
        numbered_body = body._replace(iteration=number)
        outs, state = run(numbered_body, (*ins[split:end], *carry), state, parts)
        if of_lanes:
            more = goes_on(carry)
            outs = [where_lanes(more, x, y) for x, y in zip(outs, carry, strict=True)]
        return outs, state, None if number is None else number + 1

    start = (ins[end:], state, np.int32(0) if numbered else None)
    return lax.while_loop(lambda carried: goes_on(carried[0]).any(), step, start)[:2]


def where_lanes(more: Any, now: Any, before: Any) -> Any:
    """Return the next state of a batch of loops, of which a lane that has ended stays as it is."""
    lanes = lax.broadcast_in_dim(more, now.shape, tuple(range(more.ndim)))
    return lax.select(lanes, now, before)


def _cond(site: Site, ins: Sequence[Any], run: Run, state: Any, parts: Any) -> tuple[list, Any]:
    index, *operands = ins
    branches = [
        lambda state, *operands, body=body: run(body, operands, state, parts)
        for body in bodies(site)
    ]
    platforms = site.eqn.params.get("branches_platforms")
    if platforms is None:
        return lax.switch(index, branches, state, *operands)
    staged, (outs, state_out) = g.stage(partial(lax.switch, index, branches), state, *operands)
    chosen = {"branches_platforms": platforms}
    eqns = [
        eqn.replace(params=eqn.params | chosen) if eqn.primitive is p.cond_p else eqn
        for eqn in staged.eqns
    ]
    program = Graph(staged.invars, staged.outvars, tuple(eqns), staged.constvars, staged.consts)
    results = interpret.eval_graph(program, [*jax.tree.leaves(state), *operands])
    return jax.tree.unflatten(jax.tree.structure((outs, state_out)), results)


def _shard_map(
    site: Site, ins: Sequence[Any], run: Run, state: Any, parts: Any
) -> tuple[list[Any], Any]:
    (body,), params = bodies(site), site.eqn.params
    rows = PartitionSpec(manual_axes(params))

    def local(ins: Sequence[Any], state: Any, parts: Any) -> tuple[list[Any], Any]:
        outs, state = run(body, ins, state, jax.tree.map(lambda x: x[0], parts))
        return outs, jax.tree.map(lambda x: as_array(x)[None], state)

    return jax.shard_map(
        local,
        mesh=params["mesh"],
        axis_names=set(params["newly_manual_axes"]),
        check_vma=params["check_vma"],
        in_specs=(list(params["in_specs"]), PartitionSpec(), rows),
        out_specs=(list(params["out_specs"]), rows),
    )([as_array(x) for x in ins], state, parts)


def manual_axes(params: Params) -> tuple[str, ...]:
    """Return the axes over which a shard_map divides its body, in the order of the mesh."""
    return tuple(x for x in params["mesh"].axis_names if x in params["newly_manual_axes"])


def _operands(site: Site, ins: Sequence[Any]) -> list[Any]:
    """Return operands as a loop takes them: arrays, none of a weak type that it does not have."""
    return [_strong(as_array(x), v.aval) for x, v in zip(ins, site.eqn.invars, strict=True)]


def _strong(x: Any, aval: Any) -> Any:
    if getattr(jax.typeof(x), "weak_type", False) and not getattr(aval, "weak_type", False):
        return lax.convert_element_type(x, x.dtype)
    return x


def _batched_by_hand(x: Any) -> Any:
    fun = custom_vmap(lambda x: x)
    fun.def_vmap(lambda _, batched, x: (x, batched[0]))
    return fun(x)


JIT = jax.jit(lambda x: x)
BY_OPERAND = ("in_shardings", "in_layouts", "donated_invars", "out_shardings", "out_layouts")
COMPOSITE = g.primitive_of(lax.composite(lambda x: x, "fbp.identity"), 0.0)
CUSTOM_VMAP = g.primitive_of(_batched_by_hand, 0.0)
RESTAGED = {
    p.jit_p: _jit,
    p.remat_p: _checkpoint,
    p.cond_p: _cond,
    shard_map_p: _shard_map,
} | dict.fromkeys(
    (p.closed_call_p, p.call_p, p.custom_jvp_call_p, p.custom_vjp_call_p, COMPOSITE, CUSTOM_VMAP),
    _inline,
)
CALLS = RESTAGED.keys() - {p.cond_p, shard_map_p}
"""What runs one program on its operands."""
