"""The pullback that vjp returns: a pytree whose leaves are the residuals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any, NamedTuple

import jax
import numpy as np

from fbp.autodiff import graph as g
from fbp.autodiff.avals import cotangent_type, num_bytes, tangent_dtype, varying_like
from fbp.autodiff.checks import check_arrays
from fbp.autodiff.flat_function import FlatFunction
from fbp.autodiff.graph import Graph, Var
from fbp.autodiff.masks import merge_by_mask, select
from fbp.autodiff.partition import ForwardBackward, Residual, Signature
from fbp.autodiff.rule import Pullback


class ResidualInfo(NamedTuple):
    """A residual of a pullback: its origin, its type, and its size in bytes.

    `origin` is the primitive that computed it, the path of an input, or the number of a constant
    that the function closes over; `source` is the line of a primitive.
    """

    origin: str
    source: str
    shape: tuple[int, ...]
    dtype: Any
    bytes: int

    def __repr__(self) -> str:
        type_ = f"{self.dtype}[{','.join(map(str, self.shape))}]"
        at = f", {self.source}" if self.source else ""
        return f"<residual of {self.origin}: {type_}, {self.bytes:,} bytes{at}>"


@jax.tree_util.register_pytree_node_class
@dataclass(eq=False)
class VJP:
    """The pullback ct -> (ct df/dx, ...): one cotangent per primal, of its shape and dtype.

    It is a pytree whose leaves are the residuals, so that it passes through jit, vmap and scan.

    >>> import fbp, jax.numpy as jnp
    >>> _, pullback = fbp.vjp(jnp.multiply, 2.0, 3.0)
    >>> print(*pullback(1.0))
    3.0 2.0
    >>> [r.origin for r in pullback.residuals]
    ['input [0]', 'input [1]']
    """

    values: list[Any]
    staged: FlatFunction
    parts: ForwardBackward

    def tree_flatten(self) -> tuple[list[Any], tuple[FlatFunction, ForwardBackward]]:
        """Return the residuals as leaves."""
        return self.values, (self.staged, self.parts)

    @classmethod
    def tree_unflatten(cls, static: tuple[FlatFunction, ForwardBackward], values: Any) -> "VJP":
        """Build a pullback from residuals."""
        return cls(list(values), *static)

    def __call__(self, ct: Any, *more: Any) -> tuple:
        """Return the cotangents of the primals for a cotangent of the output."""
        if more:
            raise TypeError(
                f"The function returned by `fbp.vjp` applied to {self.staged.name} was called with "
                f"{len(more) + 1} arguments, but it takes one: the cotangent of the whole output, "
                "a tuple if the output is one."
            )
        return self.staged.cotangents(self._pull(self._check(ct)))

    def _pull(self, cts: list[Any]) -> list[Any]:
        return self.parts.run_backward(self.values, cts)[self._num_consts :]

    def __repr__(self) -> str:
        size = sum(num_bytes(r.var.aval) for r in self.parts.residuals)
        return f"<pullback of {self.staged.name}: {len(self.values)} residuals, {size:,} bytes>"

    def _repr_html_(self) -> str:
        from fbp.notebook import table

        rows = [
            (r.origin, f"{r.dtype}[{','.join(map(str, r.shape))}]", f"{r.bytes:,}", r.source)
            for r in self.residuals
        ]
        titles = ["residual of", "type", "bytes", "line"]
        return f"<p>{escape(repr(self))}</p>{table(titles, rows)}"

    @property
    def residuals(self) -> list[ResidualInfo]:
        """List the residuals, and the source line of each."""
        producer = {v: eqn for eqn in self.parts.forward.eqns for v in eqn.outvars}
        inputs = self.staged.in_tree.unflatten(range(self.staged.in_tree.num_leaves))
        paths, _ = zip(*jax.tree_util.tree_leaves_with_path(inputs), strict=True)
        names = [f"constant {i}" for i in range(self._num_consts)]
        names += [f"input {jax.tree_util.keystr(path)}" for path in paths]

        def describe(index: int, var: g.Var, aval: Any) -> ResidualInfo:
            eqn = producer.get(var)
            known = names[index] if index < len(names) else "stored by a rule"
            origin = known if eqn is None else str(eqn.primitive)
            line = "" if eqn is None else g.source(eqn)
            return ResidualInfo(origin, line, tuple(aval.shape), aval.dtype, num_bytes(aval))

        return [describe(r.index, r.var, r.var.aval) for r in self.parts.residuals]

    @property
    def _has_out_ct(self) -> tuple[bool, ...]:
        return self.parts.signature.has_out_ct

    @property
    def _num_consts(self) -> int:
        return len(self.parts.signature.has_in_ct) - len(self.staged.in_avals)

    def _check(self, ct: Any) -> list[Any]:
        check_arrays(ct)
        cts, tree = jax.tree.flatten(ct)
        if tree != self.staged.out_tree:
            raise ValueError(
                "unexpected tree structure. The cotangent must have the structure of the "
                f"function's output: expected {self.staged.out_tree}, got {tree}."
            )
        for i, (x, aval) in enumerate(zip(cts, self.staged.value_avals, strict=True)):
            dtype = tangent_dtype(aval.dtype)
            got = (np.shape(x), jax.typeof(x).dtype if dtype != jax.dtypes.float0 else dtype)
            if got != (aval.shape, dtype):
                raise ValueError(
                    "unexpected JAX type (e.g. shape/dtype) for argument to VJP function: leaf "
                    f"{i} is {got[1]}{list(got[0])}, but expected {dtype}{list(aval.shape)}, "
                    "because the corresponding output of the differentiated function has it."
                )
        has_out_ct = self._has_out_ct
        arrived = [
            varying_like(x, aval) if use else None
            for x, aval, use in zip(cts, self.staged.value_avals, has_out_ct, strict=False)
        ]
        return arrived + [None] * (len(has_out_ct) - len(cts))


@jax.tree_util.register_pytree_node_class
class TapeVJP(VJP):
    """The pullback of a function whose values Python asked for: the tape as it was recorded, so
    that the backward rules of custom_vjp functions can ask for values too.

    It is staged on demand, to a `VJP`: where it passes through jit, vmap or scan as a pytree.
    """

    def __init__(
        self, staged: FlatFunction, graph: Graph, pullback: Pullback, values: Mapping[Var, Any]
    ):
        self.staged, self.graph, self.pullback = staged.without_values(), graph, pullback
        self.by_var, self.has_out_ct = values, staged.has_out_ct

    @classmethod
    def tree_unflatten(cls, static: tuple[FlatFunction, ForwardBackward], values: Any) -> VJP:
        """Build a pullback from residuals."""
        return VJP.tree_unflatten(static, values)

    def _pull(self, cts: list[Any]) -> list[Any]:
        return self.pullback(cts)

    @property
    def _has_out_ct(self) -> tuple[bool, ...]:
        return self.has_out_ct

    @property
    def values(self) -> list[Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the residuals' values."""
        return self._program[0]

    @property
    def parts(self) -> ForwardBackward:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Return the two programs: one writes the residuals, the other one reads them."""
        return self._program[1]

    @cached_property
    def _program(self) -> tuple[list[Any], ForwardBackward]:
        """Stage the backward pass; the values that it reads are the residuals."""
        graph, has_out_ct = self.graph, self.has_out_ct
        avals = tuple(v.aval for v in graph.outvars)
        types = [cotangent_type(a) for a in select(has_out_ct, avals)]
        backward, in_cts = g.stage(lambda cts: self.pullback(merge_by_mask(has_out_ct, cts)), types)
        ins = (*graph.constvars, *graph.invars)
        has_in_ct = (*(False for _ in graph.constvars), *(ct is not None for ct in in_cts))
        known = tuple(False for _ in ins), tuple(False for _ in avals)
        signature = Signature(*known, has_out_ct, has_in_ct, avals)
        numbers = {v: i for i, v in enumerate(ins)}
        by_value = {id(x): v for v, x in self.by_var.items()}
        pairs = zip(backward.consts, backward.constvars, strict=True)
        variables = [by_value.get(id(x), v) for x, v in pairs]
        residuals = tuple(Residual("stored", numbers.get(v, len(ins)), v) for v in variables)
        parts = ForwardBackward(signature, graph, g.hoist_consts(backward), residuals)
        return list(backward.consts), parts
