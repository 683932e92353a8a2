"""shard_map: each device runs the body on its part, forward and backward.

The body's joint program is staged where the mesh's axes have names, and cut once; each half
becomes a shard_map. A residual is stored as one part per device.

A body whose types say along which axes a value varies (`check_vma`) itself states where
cotangents are summed. Without such types, an output that is the same on all devices of an axis
shares its cotangent among them, and an input that is gets the sum of theirs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from fbp.autodiff import graph as g
from fbp.autodiff.avals import axes_of_vmaps, cotangent_type, struct
from fbp.autodiff.dependence import shard_map_p
from fbp.autodiff.graph import Graph
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.masks import not_, select
from fbp.autodiff.partition import Cut, ForwardBackward, Joint, Residual, cut, joint
from fbp.autodiff.rule import Applied, Call, Rules, call
from fbp.autodiff.rules.calls import Masks, call_activity, masks
from fbp.autodiff.save_policy import save_everything

Specs = tuple[PartitionSpec, ...]


@dataclass(frozen=True)
class Mapped:
    """The way a shard_map divides its inputs, and assembles its outputs.

    `dividing` are the axes with a name in the body over which no enclosing vmap is divided.
    """

    mesh: Any
    axis_names: frozenset[str]
    dividing: frozenset[str]
    check_vma: bool
    in_specs: Specs
    out_specs: Specs
    in_avals: tuple[Any, ...]
    out_avals: tuple[Any, ...]

    def shard_map(self, fun: Callable, in_specs: Sequence, out_specs: Sequence) -> Callable:
        """Map `fun` over the same axes of the same mesh."""
        return jax.shard_map(
            fun,
            mesh=self.mesh,
            axis_names=set(self.axis_names),
            check_vma=self.check_vma,
            in_specs=tuple(in_specs),
            out_specs=tuple(out_specs),
        )

    def within(self, make: Callable[[], Any]) -> Any:
        """Call `make` where the body's axes are in scope."""
        results = []
        jax.make_jaxpr(self.shard_map(lambda: results.append(make()) or (), (), ()))()
        return results[0]

    def per_device(self, aval: Any) -> PartitionSpec:
        """Return the spec of one part for each device on which a value of the body may differ."""
        if not self.check_vma:
            return PartitionSpec(self._in_order(self.dividing))
        manual = aval.mat
        return PartitionSpec(
            self._in_order(manual.varying & self.dividing) or None,
            unreduced=manual.unreduced & self.axis_names,
            reduced=manual.reduced & self.axis_names,
        )

    def replicated(self, spec: PartitionSpec) -> tuple[str, ...]:
        """Return the axes along which all devices have the same value, if no type says so."""
        if self.check_vma:
            return ()
        groups = ((entry,) if isinstance(entry, str) else entry or () for entry in spec.partitions)
        mentioned = {name for group in groups for name in group} | spec.unreduced
        return self._in_order(self.dividing - mentioned)

    def shared(self, ct: Any, spec: PartitionSpec) -> Any:
        """Return each device's share of the cotangent of an output."""
        number = math.prod(self.mesh.shape[name] for name in self.replicated(spec))
        return ct if number == 1 else lax.div(ct, np.asarray(number, ct.dtype))

    def summed(self, ct: Any, spec: PartitionSpec) -> Any:
        """Return the cotangent of an input from those of the devices."""
        names = self.replicated(spec)
        return lax.psum(ct, names) if names else ct

    def _in_order(self, names: frozenset[str]) -> tuple[str, ...]:
        return tuple(name for name in self.mesh.axis_names if name in names)


def shard_map(call: Call, ins: list[Any]) -> Applied:
    """Pull back through a shard_map by two: one for the forward pass, one for the backward pass."""
    params = call.params
    mapped = Mapped(
        params["mesh"],
        params["newly_manual_axes"],
        params["newly_manual_axes"] - axes_of_vmaps(),
        params["check_vma"],
        tuple(params["in_specs"]),
        tuple(params["out_specs"]),
        tuple(v.aval for v in call.eqn.invars),
        tuple(v.aval for v in call.eqn.outvars),
    )
    return _shard_map(g.body(params), call.rules, masks(call, ins), mapped).run(ins)


@g.weakref_cache
def _shard_map(body: Graph, rules: Rules, masks: Masks, mapped: Mapped) -> ForwardBackward:
    program = mapped.within(lambda: joint(body, rules, *masks))
    parts = cut(program, save_everything)
    forward = _forward(mapped, program, parts)
    signature = replace(program.signature, out_avals=mapped.out_avals)
    variables = _unsharded(program, forward)
    residuals = tuple(Residual(r.origin, r.index, variables[r[:2]]) for r in parts.residuals)
    return ForwardBackward(
        signature, forward, _backward(mapped, program, parts, residuals), residuals
    )


def _unsharded(program: Joint, forward: Graph) -> dict[tuple[str, int], Any]:
    """Return the variables outside of the body: inputs, outputs, and stored values."""
    num_outs = program.signature.sizes[1]
    where = {("input", i): v for i, v in enumerate(forward.invars)}
    where |= {("output", i): v for i, v in enumerate(forward.outvars[:num_outs])}
    return where | {("stored", i): v for i, v in enumerate(forward.outvars[num_outs:])}


def _specs(mapped: Mapped, program: Joint, parts: Cut) -> tuple[Specs, Specs, Specs]:
    """Return the specs of the inputs and outputs that have a value, and of the stored values."""
    signature = program.signature
    stored = parts.forward.outvars[signature.sizes[1] :]
    return (
        tuple(select(not_(signature.linear), mapped.in_specs)),
        tuple(select(not_(signature.linear_outs), mapped.out_specs)),
        tuple(mapped.per_device(v.aval) for v in stored),
    )


def _forward(mapped: Mapped, program: Joint, parts: Cut) -> Graph:
    """Return (inputs) -> (outputs, stored values); a scalar is stored as an array of one."""
    ins, outs, stored = _specs(mapped, program, parts)

    def run(*args):
        results = eval_graph(parts.forward, args)
        rows = [x if x.ndim else lax.expand_dims(x, [0]) for x in results[len(outs) :]]
        return (*results[: len(outs)], *rows)

    avals = select(not_(program.signature.linear), mapped.in_avals)
    return g.stage(mapped.shard_map(run, ins, (*outs, *stored)), *avals)[0]


def _backward(mapped: Mapped, program: Joint, parts: Cut, residuals: Sequence[Residual]) -> Graph:
    """Return (residuals, cotangents of the outputs) -> cotangents of the inputs."""
    signature = program.signature
    ins, outs, stored = _specs(mapped, program, parts)
    by_origin: dict[str, Specs] = {"input": ins, "output": outs, "stored": stored}
    specs = [by_origin[r.origin][r.index] for r in residuals]
    ct_specs = [s.to_ct_spec() for s in select(signature.has_out_ct, mapped.out_specs)]
    in_ct_specs = [s.to_ct_spec() for s in select(signature.has_in_ct, mapped.in_specs)]

    def run(*args):
        values, cts = args[: len(specs)], args[len(specs) :]
        values = [
            lax.squeeze(x, [0]) if x.ndim > struct(r.var).ndim else x
            for x, r in zip(values, parts.residuals, strict=True)
        ]
        in_cts = eval_graph(parts.backward, (*values, *map(mapped.shared, cts, ct_specs)))
        return tuple(map(mapped.summed, in_cts, in_ct_specs))

    avals = [r.var.aval for r in residuals]
    avals += [cotangent_type(a) for a in select(signature.has_out_ct, mapped.out_avals)]
    return g.stage(mapped.shard_map(run, (*specs, *ct_specs), in_ct_specs), *avals)[0]


RULES = Rules(call(shard_map_p, shard_map, call_activity))
