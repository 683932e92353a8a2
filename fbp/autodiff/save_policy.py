"""Save policies: store all that the backward pass reads, what a policy names, or a minimum cut.

A SavePolicy is a function of the known equations, of the values that the backward pass reads, and
of the values that are free (inputs and constants). It returns the values to store; the others are
computed again from those.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.avals import struct
from fbp.autodiff.graph import Graph, JaxprEqn, Var, variables
from fbp.autodiff.recompute import body_graphs, body_outputs, is_copy, repeatable
from fbp.autodiff.rule import Rules

SavePolicy = Callable[[Sequence[JaxprEqn], set[Var], set[Var]], set[Var]]


def save_everything(_: Sequence[JaxprEqn], read: set[Var], __: set[Var]) -> set[Var]:
    """Store whatever the backward pass reads: nothing is computed twice."""
    return read


def save_nothing(*_: Any) -> set[Var]:
    """Store nothing: what the backward pass reads is computed again from what is free."""
    return set()


Policy = Callable[..., Any]


@dataclass(frozen=True)
class Hidden:
    """A policy of a checkpoint that no compiler may undo: XLA for the CPU drops barriers before it
    looks for computations that it can share."""

    policy: Policy | None

    def __call__(self, *args: Any, **params: Any) -> Any:
        """Return the policy's verdict."""
        return self.policy is not None and self.policy(*args, **params)


def by_policy(policy: Policy | None) -> SavePolicy:
    """Store what a `jax.checkpoint_policies` policy names, in the bodies of scans and conds too;
    without a policy, nothing. Always store what cannot be computed again without its effects."""

    def store(eqns: Sequence[JaxprEqn], read: set[Var], free: set[Var]) -> set[Var]:
        stored: set[Var] = set()
        moved: set[Var] = set()
        for eqn in eqns:
            verdict = "Recompute" if policy is None else _verdict(policy, eqn)
            moves = is_copy(eqn) and eqn.invars[0] in moved
            if verdict == "Offload":
                moved.update(eqn.outvars)
            elif verdict == "Save" or moves or not repeatable(eqn):
                stored.update(eqn.outvars)
            elif eqn.primitive in (p.scan_p, p.cond_p):
                within = {v for body in body_graphs(eqn) for v in store(body.eqns, read, free)}
                stored.update(v for v, names in body_outputs(eqn) if within & variables(names))
        return stored

    return store


def with_offloading(graph: Graph, policy: Policy | None) -> Graph:
    """Return the same program with a copy of each value that a policy offloads to another
    memory."""
    if policy is None:
        return graph
    eqns = []
    for eqn in graph.eqns:
        eqns.append(eqn)
        if _verdict(policy, eqn) == "Offload":
            eqns.extend(_copy(v, _judge(policy, eqn).dst) for v in eqn.outvars)
    return replace(graph, eqns=tuple(eqns))


def with_named_values(policy: Policy | None, graph: Graph) -> tuple[Graph, list[Var]]:
    """Return the program with offloading copies, and the values that the policy names."""
    if policy is None:
        return graph, []
    graph = with_offloading(graph, policy)
    stored = by_policy(policy)(graph.eqns, set(), set())
    return graph, [v for eqn in graph.eqns for v in eqn.outvars if v in stored]


def _copy(value: Var, kind: str) -> JaxprEqn:
    space = jax.memory.Space.Device if kind == "device" else jax.memory.Space.Host
    (eqn,) = g.stage(lambda x: jax.device_put(x, space), struct(value.aval))[0].eqns
    return eqn.replace(invars=[value])


def _verdict(policy: Policy, eqn: JaxprEqn) -> str:
    """Return Save, Offload or Recompute."""
    verdict = _judge(policy, eqn)
    if isinstance(verdict, bool):
        return "Save" if verdict else "Recompute"
    kind = getattr(verdict, "__name__", type(verdict).__name__)
    return next((name for name in ("Save", "Offload") if kind.startswith(name)), "Recompute")


def _judge(policy: Policy, eqn: JaxprEqn) -> Any:
    return policy(eqn.primitive, *(v.aval for v in eqn.invars), **eqn.params)


RESOLUTION = 16  # parts of a byte in which a cut counts
AGAIN = 0.5
"""What a transcendental function costs to compute again, in the bytes of its outputs: enough to
store its output rather than its input, not enough to store both."""
ONCE_MORE = 1.25
"""The same in a loop that a derivative made, whose derivative would compute again what is computed
again there: enough to store both."""


def minimum_cut(
    cost: Callable[[Var], int],
    rules: Rules,
    policy: Policy | None = None,
    again: float = AGAIN,
) -> SavePolicy:
    """Store the values of least total cost from which all that is read can be computed again,
    besides those that a policy names. To compute a transcendental function again costs `again` of
    what its outputs cost.

    A maximum flow from what cannot be computed again to what is read: each value is an edge
    whose capacity is its cost, and by the max-flow min-cut theorem (Ford and Fulkerson, 1956)
    the saturated edges nearest to the source are the values to store. An edge from the source to an
    equation's outputs has the cost of computing it again.
    """

    def store(eqns: Sequence[JaxprEqn], read: set[Var], free: set[Var]) -> set[Var]:
        named = by_policy(policy)(eqns, read, free) if policy is not None else set()
        read = read - named - free
        values = sorted_values(eqns, free)
        number = {v: i for i, v in enumerate(values)}
        source, sink = 2 * len(values), 2 * len(values) + 1
        costs = (
            np.array([0 if v in named else cost(v) for v in values], dtype=np.int64) * RESOLUTION
        )
        unit = max(1, int(costs.sum()) // 2**28)
        capacities = {(2 * i, 2 * i + 1): int(c) // unit for i, c in enumerate(costs)}
        for v in (free | named) & number.keys():
            capacities[source, 2 * number[v]] = UNCUTTABLE
        for eqn in eqns:
            cheap = is_cheap(eqn, rules)
            share = again if is_transcendental(eqn, rules) else 0
            for out in eqn.outvars:
                if not cheap:
                    capacities[source, 2 * number[out]] = UNCUTTABLE
                else:
                    capacities[source, 2 * number[out]] = int(share * costs[number[out]]) // unit
                    for v in variables(eqn.invars):
                        capacities[2 * number[v] + 1, 2 * number[out]] = UNCUTTABLE
        for v in read:
            capacities[2 * number[v] + 1, sink] = UNCUTTABLE
        reachable = _source_side(capacities, source, sink, 2 * len(values) + 2)
        return named | {
            v
            for v, i in number.items()
            if v not in free and 2 * i in reachable and 2 * i + 1 not in reachable
        }

    return store


UNCUTTABLE = 2**30


def is_cheap(eqn: JaxprEqn, rules: Rules) -> bool:
    """Test whether running an equation again is cheaper than storing and loading its outputs; a jit
    is cheap if all that it holds is."""
    if eqn.primitive is p.jit_p and not eqn.effects:
        return all(is_cheap(e, rules) for e in g.body(eqn.params).eqns)
    return eqn.primitive in rules.tagged("recomputable") and not eqn.effects


def is_transcendental(eqn: JaxprEqn, rules: Rules) -> bool:
    """Test whether running an equation again takes many operations an entry; a jit does if an
    equation that it holds does."""
    if eqn.primitive is p.jit_p:
        return any(is_transcendental(e, rules) for e in g.body(eqn.params).eqns)
    return eqn.primitive in rules.tagged("transcendental")


def sorted_values(eqns: Sequence[JaxprEqn], free: set[Var]) -> list[Var]:
    """Return every value once, inputs first."""
    inputs = variables(*(eqn.invars for eqn in eqns)) | free
    defined = [v for eqn in eqns for v in eqn.outvars]
    return [*(inputs - set(defined)), *defined]


def _source_side(
    capacities: dict[tuple[int, int], int], source: int, sink: int, size: int
) -> set[int]:
    """Return the nodes that the source still reaches when the flow is at its maximum."""
    from scipy.sparse import csr_array  # not with fbp: it takes time
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    edges = [e for e, c in capacities.items() if c > 0]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    weights = np.array([capacities[e] for e in edges], dtype=np.int32)
    network = csr_array((weights, (rows, columns)), shape=(size, size))
    residual = network - maximum_flow(network, source, sink).flow
    residual.data = np.maximum(residual.data, 0)
    residual.eliminate_zeros()
    return set(breadth_first_order(residual, source, return_predecessors=False).tolist())
