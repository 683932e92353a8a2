"""Checks of loops of unknown length: an effect cannot run again to compute a state again, nor can
devices that take different numbers of steps sum in each step."""

from collections.abc import Iterable, Sequence

from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.avals import varying
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.lanes import programs
from fbp.autodiff.masks import select
from fbp.autodiff.partition import Joint
from fbp.autodiff.rules.effects import IO_CALLBACK


def check_again(eqns: Sequence[JaxprEqn]) -> None:
    """Raise if recomputation would repeat an effect."""
    for eqn in eqns:
        if eqn.primitive in (IO_CALLBACK, p.swap_p):
            raise ValueError(
                f"'{eqn.primitive}', used at {g.source(eqn)}, would run twice: backward, the states"
                " of a loop of unknown length are computed again, and they depend on its value. "
                "Write jax.pure_callback if the value is always the same, or use jax.lax.scan."
            )
        for program, _ in programs(eqn) if eqn.effects else ():
            check_again(program.eqns)


def check_steps(condition: Graph, step: Joint) -> None:
    """Raise if devices take different numbers of steps, but share what they sum or step from."""
    axes, signature = varying(condition.outvars[0].aval), step.signature
    if any(not axes <= varying(a) for a in select(signature.has_out_ct, signature.out_avals)):
        raise ValueError(typed_as_the_same(axes))
    for eqn in step.graph.eqns:
        shared = axes & {str(getattr(effect, "name", "")) for effect in eqn.effects}
        if shared:
            raise ValueError(
                f"{varies(shared)}, over which '{eqn.primitive}', for {g.source(eqn)}, sums in "
                "each step backward: let what the body reads vary before the loop, "
                f"{advice(shared)}"
            )


def typed_as_the_same(axes: Iterable[str]) -> str:
    """Say what is wrong with a state that is typed as if all devices took the same steps."""
    return (
        f"{varies(axes)}, but a differentiated part of its state is typed as if it were the same "
        f"on all: let it vary before the loop, {advice(axes)}"
    )


def varies(axes: Iterable[str]) -> str:
    """Say that devices take different numbers of steps."""
    return f"the number of steps of a loop varies along the mesh axes {', '.join(sorted(axes))}"


def advice(axes: Iterable[str]) -> str:
    """Say how to make a value vary over devices."""
    return f"with jax.lax.pcast(x, {tuple(sorted(axes))}, to='varying')."
