"""Mutable arrays: those that a function creates are replaced by values before it is differentiated
(see `graph.discharge_refs`), those from outside are constants (see `backprop.check_writes`)."""

from typing import Any

from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.activity import differentiable_outputs
from fbp.autodiff.avals import zeros
from fbp.autodiff.backprop import forward
from fbp.autodiff.compat import WRITES, run_state_p
from fbp.autodiff.rule import Applied, Call, Rules, call, constant


def run_state(call: Call, ins: list[Any]) -> Applied:
    """Differentiate the arrays' last values as a function of their first."""
    params = call.params
    pure = g.discharge_refs(params["jaxpr"], discharge=True)
    program = g.from_jaxpr_and_consts(pure, pure.consts)
    initialized = params["is_initialized"]
    values, needs_ct = iter(ins), iter(call.needs_ct)
    args = [
        next(values) if is_initialized else zeros(v.aval)
        for v, is_initialized in zip(program.invars, initialized, strict=True)
    ]
    outs, pullback = forward(
        call.rules,
        program,
        args,
        [next(needs_ct) if is_initialized else False for is_initialized in initialized],
        call.has_out_ct,
    )

    def pull(cts):
        in_cts = zip(pullback(cts), initialized, strict=True)
        return [ct for ct, is_initialized in in_cts if is_initialized]

    return outs, pull


RULES = Rules(constant(p.get_p, *WRITES), call(run_state_p, run_state, differentiable_outputs))
