"""Guess a program's work and its memory, to compile only what is worth compiling.

Work is counted with the trips of its loops, which XLA's own count leaves out. Memory is that of a
run equation by equation, which frees a value after its last use: XLA's is smaller, since it fuses,
but programs that differ in what they keep are in the same order.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params
from jax.extend.core import primitives as p

from fbp.autodiff.avals import num_bytes
from fbp.autodiff.graph import Literal, Var, source, variables


def work(graph: Any) -> float:
    """Count the operations of a program: two for each product of a sum of products, and one for
    each entry of another equation's outputs. A loop of unknown length counts once."""
    return _total(graph, _operations)


def transferred(graph: Any) -> float:
    """Count the bytes that a program moves to host memory and back."""
    return _total(graph, _bytes_transferred)


def work_by(graph: Any, key: Callable[[Any], str] = source) -> dict[str, float]:
    """Count the operations of a program by a key of its equations: by default the source line."""
    return _count_by(graph, key, _operations)


def _total(graph: Any, count: Callable[[Any], float]) -> float:
    return sum(_count_by(graph, lambda _: "", count).values())


def _count_by(
    graph: Any, key: Callable[[Any], str], count: Callable[[Any], float]
) -> dict[str, float]:
    total: Any = Counter()  # of floats
    for eqn in graph.eqns:
        inner = [_count_by(body, key, count) for body in jaxprs_in_params(eqn.params)]
        if eqn.primitive is p.cond_p:
            total.update(max(inner, key=lambda counts: sum(counts.values()), default={}))
        elif inner:
            trips = eqn.params["length"] if eqn.primitive is p.scan_p else 1
            for body in inner:
                total.update({name: trips * count for name, count in body.items()})
        else:
            total[key(eqn)] += count(eqn)
    return total


def _bytes_transferred(eqn: Any) -> float:
    if eqn.primitive is not p.device_put_p:
        return 0.0
    pairs = zip(eqn.invars, eqn.outvars, strict=True)
    return sum(float(num_bytes(b.aval)) for a, b in pairs if _on_host(a) != _on_host(b))


def _operations(eqn: Any) -> float:
    entries = sum(math.prod(getattr(v.aval, "shape", ())) for v in eqn.outvars)
    if eqn.primitive is p.dot_general_p:
        (contracted, _), _ = eqn.params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2.0 * entries * math.prod(shape[i] for i in contracted)
    if eqn.primitive is p.conv_general_dilated_p:
        kernel = eqn.invars[1].aval.shape
        features = eqn.params["dimension_numbers"].rhs_spec[0]
        return 2.0 * entries * math.prod(kernel) / max(1, kernel[features])
    return float(entries)


def peak(graph: Any) -> int:
    """Return the most bytes that are alive at once, inputs apart."""
    last: dict[Var, int] = {}
    for i, eqn in enumerate(graph.eqns):
        last |= dict.fromkeys(variables(eqn.invars), i)
    last |= dict.fromkeys(_results(graph.outvars), len(graph.eqns))
    outside = {*graph.invars, *graph.constvars}
    alive = highest = 0
    for i, eqn in enumerate(graph.eqns):
        inside = max((peak(body) for body in jaxprs_in_params(eqn.params)), default=0)
        results = sum(map(_bytes, eqn.outvars))
        # A scan's body makes a slice of its results; that of another equation makes them all.
        needed = results + inside if eqn.primitive is p.scan_p else max(results, inside)
        highest = max(highest, alive + needed)
        alive += results
        ended = {v for v in variables(eqn.invars) - outside if last[v] == i}
        ended |= {v for v in eqn.outvars if v not in last}
        alive -= sum(_bytes(v) for v in ended)
    return highest


def _bytes(v: Any) -> int:
    """Return those in the device's memory; a token has none."""
    return num_bytes(v.aval) if hasattr(v.aval, "size") and not _on_host(v) else 0


def _on_host(v: Any) -> bool:
    return getattr(v.aval, "memory_space", None) == jax.memory.Space.Host


def _results(outvars: Sequence[Any]) -> set[Var]:
    return {v for v in outvars if not isinstance(v, Literal)}
