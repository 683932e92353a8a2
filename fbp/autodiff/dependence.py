"""Dependence: find which outputs of an equation depend on which of its inputs.

An equation that holds a program (jit, scan, cond, ...) is not a unit: an output depends on an
input if the program says so. If only some outputs depend on an input, the equation can be split
in two, each of which computes its own outputs alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import jax
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.compat import scan_counts
from fbp.autodiff.dce import dce, read_by, without_dead_code
from fbp.autodiff.graph import Graph, JaxprEqn, Primitive, Var, variables

Mask = tuple[bool, ...]


def depends(eqn: JaxprEqn, sources: Mask) -> Mask:
    """Say which outputs depend on the inputs that `sources` marks.

    >>> import jax, jax.numpy as jnp
    >>> f = jax.jit(lambda x, y: (jnp.sin(x), x * y))
    >>> (eqn,) = jax.make_jaxpr(f)(1.0, 2.0).eqns
    >>> depends(eqn, (False, True))
    (False, True)
    """
    if not any(sources) or eqn.primitive not in PROGRAMS:
        return (any(sources),) * len(eqn.outvars)
    return PROGRAMS[eqn.primitive](eqn, sources)


@g.weakref_cache
def results_depend(graph: Graph, sources: Mask) -> Mask:
    """Say which results of a program depend on the inputs that `sources` marks."""
    dependent = {v for v, source in zip(graph.invars, sources, strict=True) if source}
    for eqn in graph.eqns:
        if not dependent.isdisjoint(variables(eqn.invars)):
            hits = depends(eqn, among(eqn.invars, dependent))
            dependent.update(v for v, hit in zip(eqn.outvars, hits, strict=True) if hit)
    return among(graph.outvars, dependent)


def among(atoms: Iterable[Any], chosen: set[Var]) -> Mask:
    """Say which of the atoms are variables among the chosen."""
    return tuple(isinstance(v, Var) and v in chosen for v in atoms)


def dependent_variables(eqns: Sequence[JaxprEqn], sources: Iterable[Var]) -> set[Var]:
    """Return the sources and every variable that depends on them."""
    sources = set(sources)
    return sources | {v for eqn, hit in parted(eqns, sources) if hit for v in eqn.outvars}


def effectful(eqns: Sequence[JaxprEqn]) -> set[Var]:
    """Return the outputs of equations with effects, whose values may differ each time."""
    return {v for eqn in eqns if eqn.effects for v in eqn.outvars}


def split_by_dependence(
    eqns: Sequence[JaxprEqn], sources: Iterable[Var]
) -> tuple[list[JaxprEqn], list[JaxprEqn]]:
    """Split equations into those that do not depend on the sources, and those that do."""
    pairs = list(parted(eqns, sources))
    return [eqn for eqn, hit in pairs if not hit], [eqn for eqn, hit in pairs if hit]


def parted(eqns: Sequence[JaxprEqn], sources: Iterable[Var]) -> Iterator[tuple[JaxprEqn, bool]]:
    """Yield the equations in order, each with whether it depends on the sources. An equation of
    which some outputs depend, while others can be computed without the sources, becomes two."""
    dependent = set(sources)
    for eqn in eqns:
        if dependent.isdisjoint(variables(eqn.invars)):
            yield eqn, False
            continue
        known = independent(eqn, among(eqn.invars, dependent))
        if known is not None:
            yield known, False
            eqn = _without(eqn, known.outvars)
        dependent.update(eqn.outvars)
        if eqn.outvars or known is None:
            yield eqn, True


def _without(eqn: JaxprEqn, known: Sequence[Var]) -> JaxprEqn:
    """Return an equation for the other outputs; known ones computed on the way get no name."""
    rest = restricted(eqn, tuple(v not in known for v in eqn.outvars))
    return rest.replace(outvars=[Var(v.aval) if v in known else v for v in rest.outvars])


def independent(eqn: JaxprEqn, sources: Mask) -> JaxprEqn | None:
    """Return an equation for the outputs that do not depend on the marked inputs, without those
    inputs; None if there is no such output. An equation with effects is not split."""
    hits = depends(eqn, sources)
    if all(hits) or eqn.effects:
        return None
    known = restricted(eqn, tuple(not hit for hit in hits))
    read = variables(v for v, source in zip(eqn.invars, sources, strict=True) if source)
    apart = len(known.outvars) == hits.count(False) and read.isdisjoint(variables(known.invars))
    return known if apart else None


def restricted(eqn: JaxprEqn, used: Mask) -> JaxprEqn:
    """Return an equation that computes the used outputs and reads only what they need; the same
    equation if it cannot be divided."""
    if all(used):
        return eqn
    return (_while_of if eqn.primitive is p.while_p else without_dead_code)(eqn, used)


def _while_of(eqn: JaxprEqn, used: Mask) -> JaxprEqn:
    """Return a while_loop over what the used outputs and the condition need (JAX 0.10 keeps every
    state)."""
    params = eqn.params
    condition, body = g.from_jaxpr(params["cond_jaxpr"]), g.from_jaxpr(params["body_jaxpr"])
    if condition.consts or body.consts:
        return eqn
    num_condition, num_body = params["cond_nconsts"], params["body_nconsts"]
    state = body.invars[num_body:]
    read = read_by(condition)
    remaining = [
        u or v in read for u, v in zip(used, condition.invars[num_condition:], strict=True)
    ]
    while True:
        step = dce(replace(body, outvars=tuple(compress(body.outvars, remaining))))
        needed = [k or v in read_by(step) for k, v in zip(remaining, state, strict=True)]
        if needed == remaining:
            break
        remaining = needed
    of_condition = [v in read for v in condition.invars[:num_condition]]
    of_body = [v in read_by(step) for v in body.invars[:num_body]]
    condition = replace(
        condition, invars=tuple(compress(condition.invars, of_condition + remaining))
    )
    step = replace(step, invars=tuple(compress(step.invars, of_body + remaining)))
    return eqn.replace(
        invars=list(compress(eqn.invars, of_condition + of_body + remaining)),
        outvars=list(compress(eqn.outvars, remaining)),
        params={
            "cond_jaxpr": g.holding(condition, params["cond_jaxpr"]),
            "body_jaxpr": g.holding(step, params["body_jaxpr"]),
            "cond_nconsts": of_condition.count(True),
            "body_nconsts": of_body.count(True),
        },
    )


# Equations that hold programs


def _of_call(eqn: JaxprEqn, sources: Mask) -> Mask:
    """Ask the one program, whose inputs are the equation's operands."""
    return results_depend(g.body(eqn.params), sources)


def _of_cond(eqn: JaxprEqn, sources: Mask) -> Mask:
    """Mark every output if the index depends, else those that depend in one of the branches."""
    if sources[0]:
        return (True,) * len(eqn.outvars)
    branches = (g.from_jaxpr(branch) for branch in eqn.params["branches"])
    by_branch = [results_depend(branch, sources[1:]) for branch in branches]
    return tuple(any(hits) for hits in zip(*by_branch, strict=True))


def _of_scan(eqn: JaxprEqn, sources: Mask) -> Mask:
    """Mark the outputs that depend after enough iterations."""
    num_consts, num_carry = scan_counts(eqn.params)
    body = g.body(eqn.params)

    def step(carry: Mask) -> Mask:
        xs = sources[num_consts + num_carry :]
        return results_depend(body, (*sources[:num_consts], *carry, *xs))

    carry = _fixed_point(sources[num_consts : num_consts + num_carry], step)
    return (*carry, *step(carry)[num_carry:])


def _of_while(eqn: JaxprEqn, sources: Mask) -> Mask:
    """Mark the outputs that depend after enough iterations; if their number depends, so does every
    state that the body changes."""
    params = eqn.params
    condition, body = g.from_jaxpr(params["cond_jaxpr"]), g.from_jaxpr(params["body_jaxpr"])
    num_condition, num_body = params["cond_nconsts"], params["body_nconsts"]
    of_condition, of_body = sources[:num_condition], sources[num_condition:][:num_body]
    changes = [a is not b for a, b in zip(body.invars[num_body:], body.outvars, strict=True)]

    def step(carry: Mask) -> Mask:
        ends = any(results_depend(condition, (*of_condition, *carry)))
        hits = results_depend(body, (*of_body, *carry))
        return tuple(hit or (ends and change) for hit, change in zip(hits, changes, strict=True))

    return _fixed_point(sources[num_condition + num_body :], step)


def _fixed_point(carry: Mask, step: Callable[[Mask], Mask]) -> Mask:
    while True:
        longer = tuple(a or b for a, b in zip(carry, step(carry), strict=False))
        if longer == carry:
            return carry
        carry = longer


_MESH = jax.sharding.AbstractMesh((1,), ("i",))

shard_map_p = g.primitive_of(jax.shard_map(tuple, mesh=_MESH, in_specs=(), out_specs=()))

PROGRAMS: dict[Primitive, Callable[[JaxprEqn, Mask], Mask]] = {
    p.jit_p: _of_call,
    p.closed_call_p: _of_call,
    p.call_p: _of_call,
    p.remat_p: _of_call,
    p.custom_jvp_call_p: _of_call,
    p.custom_vjp_call_p: _of_call,
    shard_map_p: _of_call,
    p.cond_p: _of_cond,
    p.scan_p: _of_scan,
    p.while_p: _of_while,
}
