"""Reductions by any monoid, a program (x, y) -> z on numbers, or on several of them.

The reduction is written as a tree of pairs, level by level, and the tree is differentiated.
Neighbors are paired, so that a monoid need not be commutative.
"""

import itertools
from collections.abc import Callable
from math import prod
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff.avals import struct
from fbp.autodiff.backprop import forward
from fbp.autodiff.graph import Graph, body, from_jaxpr_and_consts, stage
from fbp.autodiff.interpret import apply_primitive, eval_graph
from fbp.autodiff.rule import Applied, Call, Rule, Rules, call

Arrays = list[Any]


def elementwise(monoid: Graph, first: Arrays, second: Arrays) -> Arrays:
    """Apply the monoid to arrays of one shape."""
    flat = [lax.reshape(x, (x.size,)) for x in (*first, *second)]
    combined = jax.vmap(lambda *numbers: eval_graph(monoid, numbers))(*flat)
    return [lax.reshape(z, x.shape) for z, x in zip(combined, first, strict=True)]


def fold(monoid: Graph, xs: Arrays, starts: Arrays) -> Arrays:
    """Reduce along the first axis, starting from `starts`."""
    while (n := xs[0].shape[0]) > 1:
        even, odd = ([lax.slice_in_dim(x, i, n - n % 2, 2) for x in xs] for i in (0, 1))
        pairs = elementwise(monoid, even, odd)
        left = [lax.slice_in_dim(x, n - n % 2, n) for x in xs]
        xs = [lax.concatenate(z, 0) for z in zip(pairs, left, strict=True)] if n % 2 else pairs
    starts = [lax.broadcast(s, x.shape[1:]) for s, x in zip(starts, xs, strict=True)]
    if n == 0:
        return starts
    return elementwise(monoid, starts, [lax.squeeze(x, (0,)) for x in xs])


def along_axes(xs: Arrays, starts: Arrays, params: dict[str, Any]) -> Arrays:
    """Move the axes of a reduction to the front, as one."""
    axes = params["dimensions"]
    remaining = [i for i in range(xs[0].ndim) if i not in axes]
    count = prod(xs[0].shape[i] for i in axes)
    return [
        lax.reshape(
            lax.transpose(x, (*axes, *remaining)), (count, *(x.shape[i] for i in remaining))
        )
        for x in xs
    ]


def in_windows(xs: Arrays, starts: Arrays, params: dict[str, Any]) -> Arrays:
    """Gather the entries of sliding windows in front: for each offset in the window, a strided
    slice of the padded array."""
    sizes, holes = params["window_dimensions"], params["window_dilation"]
    spans = [(n - 1) * hole for n, hole in zip(sizes, holes, strict=True)]
    offsets = [range(0, span + 1, hole) for span, hole in zip(spans, holes, strict=True)]
    edges = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["base_dilation"], strict=True)
    ]

    def gathered(x: Any, start: Any) -> Any:
        padded = lax.pad(x, lax.stop_gradient(start), edges)
        last = [n - span for n, span in zip(padded.shape, spans, strict=True)]
        slices = [
            lax.slice(padded, at, tuple(np.add(at, last)), params["window_strides"])
            for at in itertools.product(*offsets)
        ]
        return lax.concatenate([lax.expand_dims(y, (0,)) for y in slices], 0)

    return [gathered(x, start) for x, start in zip(xs, starts, strict=True)]


def fold_rule(
    primitive: Any, monoid: Callable[[dict], Graph], gathered: Callable[..., Arrays]
) -> Rule:
    """Run the primitive, and pull back through the tree that computes the same."""

    def apply(use: Call, ins: list[Any]) -> Applied:
        half = len(ins) // 2

        def tree(*args: Any) -> Arrays:
            xs, starts = list(args[:half]), list(args[half:])
            return fold(monoid(use.params), gathered(xs, starts, use.params), starts)

        outs = apply_primitive(use.eqn, ins)
        if any(y.size == 0 for y in outs):
            return outs, lambda cts: [None] * len(ins)
        program, _ = stage(tree, *(struct(v.aval) for v in use.eqn.invars))
        _, pullback = forward(use.rules, program, ins, use.needs_ct, use.has_out_ct)
        return outs, pullback

    return call(primitive, apply)


def monoid_of_window(params: dict[str, Any]) -> Graph:
    """Return the monoid of a reduction over sliding windows."""
    return from_jaxpr_and_consts(params["jaxpr"], params["consts"])


RULES = Rules(
    fold_rule(p.reduce_p, body, along_axes),
    fold_rule(p.reduce_window_p, monoid_of_window, in_windows),
).tag("combines")
