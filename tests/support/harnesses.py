"""The programs that JAX ships to test its own conversions: every primitive with the shapes,
dtypes and parameters that its authors found worth a case. Those among them that JAX can
differentiate, as functions of their floating arguments."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Cotangents = list[Any]


@dataclass(frozen=True)
class Program:
    """A function of floating arrays, these, and a random cotangent for each of its outputs."""

    name: str
    fun: Callable
    args: tuple[Any, ...]
    cts: Cotangents

    def cotangents(self, library: Any) -> Cotangents:
        """Those of the arguments, by fbp or by JAX."""
        return library.vjp(self.fun, *self.args)[1](self.cts)


def programs_by_group() -> dict[str, list[Callable[[], Program | None]]]:
    """The harnesses that run on the CPU, by primitive; each makes a program, or None if JAX
    cannot differentiate it. Double precision is on."""
    with jax.enable_x64(True), warnings.catch_warnings(action="ignore"):
        from jax._src.internal_test_util import test_harnesses

        some = [h for h in test_harnesses.all_harnesses if h.filter("cpu")]
    groups: dict[str, list] = {}
    for harness in some:
        groups.setdefault(harness.group_name, []).append(lambda h=harness: program(h))
    return groups


def program(harness: Any) -> Program | None:
    """A harness as a program."""
    try:
        leaves, tree = jax.tree.flatten(harness.dyn_args_maker(np.random.RandomState(0)))
    except Exception:
        return None  # not for this version or platform
    places = [i for i, x in enumerate(leaves) if is_inexact(x)]

    def fun(*floats: Any) -> list[Any]:
        filled = list(leaves)
        for i, x in zip(places, floats, strict=True):
            filled[i] = x
        return jax.tree.leaves(harness.dyn_fun(*jax.tree.unflatten(tree, filled)))

    args = tuple(jnp.asarray(leaves[i]) for i in places)
    try:
        outs = jax.eval_shape(fun, *args)
        made = Program(harness.fullname, fun, args, [cotangent(y) for y in outs])
        if any(map(is_inexact, outs)):
            jax.jit(lambda: made.cotangents(jax)).lower()
            return made
    except Exception:
        pass  # JAX cannot differentiate it
    return None


def is_inexact(x: Any) -> bool:
    """Whether an array, or what should become one, is floating or complex."""
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, np.inexact)


def cotangent(y: Any) -> Any:
    """Random numbers of an output's shape."""
    if not is_inexact(y):
        return np.zeros(y.shape, jax.dtypes.float0)
    rng = np.random.default_rng(1)
    numbers = rng.standard_normal(y.shape)
    if jnp.issubdtype(y.dtype, np.complexfloating):
        numbers = numbers + 1j * rng.standard_normal(y.shape)
    return jnp.asarray(numbers, y.dtype)
