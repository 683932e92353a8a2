"""Effects: prints and checks run once, in the forward pass; results of callbacks and foreign calls
have no derivative."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import checkify, io_callback

from fbp.autodiff import graph as g
from fbp.autodiff.activity import differentiable_outputs
from fbp.autodiff.graph import Primitive
from fbp.autodiff.rule import Applied, Call, Rules, call, constant


def without_derivative(call: Call, ins: list[Any]) -> Applied:
    """Run a callback or foreign call, and raise on the way back: only its author can state a
    derivative."""
    raise ValueError(
        f"'{call.eqn.primitive}', used at {g.location(call.eqn)}, runs code that JAX cannot "
        "differentiate: wrap it in a jax.custom_vjp or jax.custom_jvp function that states its "
        "derivative, or keep it off the gradient's way with jax.lax.stop_gradient."
    )


def _effect(fun: Callable[[Any], Any]) -> Primitive:
    return g.stage(fun, True)[0].eqns[-1].primitive


NUMBER = jax.ShapeDtypeStruct((), "float32")

DEBUG_CALLBACK = _effect(lambda x: jax.debug.callback(print, x))
DEBUG_PRINT = _effect(lambda x: jax.debug.print("{}", x))
INSPECT_SHARDING = _effect(lambda x: jax.debug.inspect_array_sharding(x, callback=print))
CHECK = _effect(lambda x: checkify.check(x, ""))
PURE_CALLBACK = _effect(lambda x: jax.pure_callback(float, NUMBER, x))
IO_CALLBACK = _effect(lambda x: io_callback(float, NUMBER, x))
FFI_CALL = _effect(jax.ffi.ffi_call("fbp", NUMBER))

RULES = Rules(
    constant(DEBUG_CALLBACK, DEBUG_PRINT, INSPECT_SHARDING, CHECK),
    call(PURE_CALLBACK, without_derivative, differentiable_outputs),
    call(IO_CALLBACK, without_derivative, differentiable_outputs),
    call(FFI_CALL, without_derivative, differentiable_outputs),
)
