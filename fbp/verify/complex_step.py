"""The derivative of a program along a direction, to full precision, by a step that is imaginary.

A difference quotient subtracts two nearly equal numbers. With an imaginary step there is nothing
to subtract: f(x + ih) = f(x) + ih f'(x) + O(h^2), so that Im f(x + ih) / h is f'(x), however small
h is. That takes a program in which every operation on the input is analytic, and is implemented
so: JAX's own complex functions are not always what the real ones continue to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives as p

from fbp.autodiff import RULES
from fbp.autodiff import graph as g
from fbp.autodiff.avals import is_complex, is_inexact
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import Environment, apply_primitive, bind, eval_graph
from fbp.autodiff.restage import CALLS, Site, bodies, body_operands, carried, restage

STEPS = (1e-30, 1e-45)  # the second must give what the first gives: at sqrt(0) it does not

ANALYTIC = RULES.tagged("analytic")
"""Primitives that JAX implements for complex operands as what their real ones continue to; max,
min and sort go by the real part, and at a tie by the imaginary one."""

OF_REAL_PART = RULES.tagged("piecewise_constant")
"""Primitives that are constant on either side of their steps: they see the real part."""


@dataclass(frozen=True)
class ComplexStep:
    """A derivative, or why there is none.

    Attributes:
      value: the derivative, to about the precision of float64; None if it cannot be taken.
      refused: the first operation on the input that is not known to be analytic, with its source
        line; or that the program is not analytic at this point, as log outside of its domain and
        sqrt at 0, where the complex value is another, or changes otherwise with h.
    """

    value: float | None
    refused: str = ""


class _Refused(Exception):
    pass


def complex_step(
    fun: Callable[..., Any], args: Sequence[Any], directions: Sequence[Any]
) -> ComplexStep:
    """d/dt fun(*(args + t directions)) at t = 0, as Im fun(*(args + ih directions)) / h, h = 1e-30.

    The program is traced for real arguments, then run equation by equation with complex128 in the
    place of the floats that depend on them. User rules (custom_jvp, custom_vjp) and stop_gradient
    play no part: the derivative is that of the values. At a tie of max, min or sort it is the
    one-sided derivative in this direction.

    Args:
      fun: to a real number.
      args: arrays and pytrees of arrays; their floats are taken as float64.
      directions: the same, of the same shapes; what stands beside integers is not read.

    Source: W. Squire and G. Trapp, Using complex variables to estimate derivatives of real
    functions, SIAM Review 40 (1998).

    Raises ValueError where fun does not return one real number, or args and directions differ.

    >>> complex_step(lambda x: jnp.exp(jnp.sin(x)), (0.0,), (1.0,)).value
    1.0
    >>> complex_step(jax.scipy.special.erf, (0.0,), (1.0,)).refused
    'erf is not known to be analytic'
    """
    with jax.enable_x64(True):
        args, directions = jax.tree.map(_double, (tuple(args), tuple(directions)))
        if jax.tree.map(jnp.shape, args) != jax.tree.map(jnp.shape, directions):
            raise ValueError("args and directions differ in structure or shapes: give like pytrees")
        graph, out = g.stage(fun, *args)
        leaves = jax.tree.leaves(out)
        if [(x.shape, x.dtype.kind) for x in leaves] != [((), "f")]:
            raise ValueError(f"fun must return one real number, got {out}")
        real, along = jax.tree.leaves(args), jax.tree.leaves(directions)
        try:
            first, second = (
                _run(graph, [_step(x, d, h) for x, d in zip(real, along, strict=True)])[0]
                for h in STEPS
            )
        except _Refused as reason:
            return ComplexStep(None, str(reason))
        (value,) = eval_graph(graph, real)
        derivatives = [float(np.imag(y)) / h for y, h in zip((first, second), STEPS, strict=True)]
        same = np.isclose([float(np.real(first)), derivatives[0]], [float(value), derivatives[1]])
        if not np.all(same) or not np.all(np.isfinite(derivatives)):
            return ComplexStep(None, f"its value is {value}, that of its continuation {first}")
        return ComplexStep(derivatives[0])


def _double(x: Any) -> Any:
    x = jnp.asarray(x)
    return x.astype(jnp.float64) if is_inexact(x.dtype) and not is_complex(x.dtype) else x


def _step(x: jax.Array, direction: jax.Array, h: float) -> jax.Array:
    return lax.complex(x, h * direction) if x.dtype == jnp.float64 else x


def _run(graph: Graph, args: Sequence[Any]) -> list[Any]:
    """Return the program's outputs, complex where they depend on complex arguments."""
    env = Environment(graph, args)
    for eqn in graph.eqns:
        ins = env.read(eqn.invars)
        env.write(eqn.outvars, _apply(eqn, ins) if any(map(_is_complex, ins)) else bind(eqn, ins))
    return env.results(graph)


def _is_complex(x: Any) -> bool:
    return hasattr(x, "dtype") and is_complex(x.dtype)


def _apply(eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    """Return the outputs of an equation of which an input is complex."""
    primitive, params = eqn.primitive, eqn.params
    if primitive in CALLS:
        return _run(g.body(params), ins)
    if primitive in CONTROL:
        return CONTROL[primitive](eqn, ins)
    if primitive in CONTINUED:
        return [CONTINUED[primitive](eqn, *map(_widen, ins))]
    if primitive in OF_REAL_PART:
        return bind(eqn, [x.real if _is_complex(x) else x for x in ins])
    if primitive is p.convert_element_type_p and params["new_dtype"] == jnp.float64:
        return ins
    if primitive not in ANALYTIC or any(_narrow(v.aval) for v in (*eqn.invars, *eqn.outvars)):
        where = f" at {g.source(eqn)}" if g.source(eqn) else ""
        raise _Refused(f"{primitive.name}{where} is not known to be analytic")
    if params.get("preferred_element_type") is not None:
        params = params | {"preferred_element_type": jnp.dtype(jnp.complex128)}
    return apply_primitive(eqn.replace(params=params), [_widen(x) for x in ins])


def _narrow(aval: Any) -> bool:
    """Return whether a type is of floats, but not of float64: there, imaginary steps would be
    rounded."""
    return is_inexact(aval.dtype) and aval.dtype != jnp.float64


def _widen(x: Any) -> Any:
    """Return a float64 as a complex128; other types as they are."""
    x = jnp.asarray(x)
    return x.astype(jnp.complex128) if x.dtype == jnp.float64 else x


def _abs(_: JaxprEqn, x: jax.Array) -> jax.Array:
    return lax.select(x.real < 0, -x, x)


def _pow(_: JaxprEqn, x: jax.Array, y: jax.Array) -> jax.Array:
    """x^y = (Re x)^(Re y) e^(y log(x / Re x) + i Im y log Re x): also for a negative base."""
    y = y.astype(jnp.complex128)
    base, zero = lax.complex(x.real, jnp.zeros_like(x.real)), jnp.zeros_like(y.imag)
    turn = jnp.where(y.imag == 0, zero, y.imag * jnp.log(x.real))
    size = lax.complex(lax.pow(x.real, y.real), zero)
    return size * jnp.exp(y * jnp.log(x / base) + lax.complex(zero, turn))


def _convolution(eqn: JaxprEqn, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the outputs by parts: what JAX computes has lost small imaginary ones."""

    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        (y,) = apply_primitive(eqn, [x, kernel])
        return y

    imaginary = convolve(x.imag, kernel.real) + convolve(x.real, kernel.imag)
    return lax.complex(convolve(x.real, kernel.real), imaginary)


def _linear(eqn: JaxprEqn, *ins: jax.Array) -> jax.Array:
    """Return the outputs by parts: what is added up is written down in the equation as real."""
    real, imaginary = (
        apply_primitive(eqn, [part(x) if _is_complex(x) else x for x in ins])[0]
        for part in (jnp.real, jnp.imag)
    )
    return lax.complex(real, imaginary)


CONTINUED = {
    p.abs_p: _abs,
    p.pow_p: _pow,
    p.conv_general_dilated_p: _convolution,
    p.scatter_add_p: _linear,
}
"""Primitives that JAX lacks for complex operands, or computes for these as something else."""


def _restaged(eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    """Run a loop or a branch whose body may return complex numbers, and so starts from them."""
    site = Site((0,), eqn)
    first, *_ = bodies(site)
    start = {id(v) for v in (body_operands(first)[i] for i in carried(first))}
    ins = [_widen(x) if id(v) in start else x for v, x in zip(eqn.invars, ins, strict=True)]
    return restage(
        site,
        ins,
        lambda body, ins, *_: ([_widen(y) for y in _run(body.graph, ins)], ()),
        condition=_run,
    )[0]


def _linear_solve(eqn: JaxprEqn, ins: list[Any]) -> list[Any]:
    params = eqn.params
    lengths = params["const_lengths"]
    first, last = lengths.matvec + lengths.vecmat, sum(lengths)
    consts = ins[first : first + lengths.solve]
    return _run(g.from_jaxpr(params["jaxprs"].solve), [*consts, *ins[last:]])


CONTROL = {
    **dict.fromkeys((p.cond_p, p.scan_p, p.while_p), _restaged),
    p.linear_solve_p: _linear_solve,
}
"""Primitives that run one of the programs that they hold, or one many times."""
