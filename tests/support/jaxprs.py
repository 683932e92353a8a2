"""What a staged or compiled program consists of."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a jaxpr and of the jaxprs within."""
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def staged(fun: Callable, *args: Any) -> list[Any]:
    """Every equation of a function."""
    return list(equations(jax.make_jaxpr(fun)(*args)))


def primitives(fun: Callable, *args: Any) -> Counter[str]:
    """How often each primitive occurs in a function, written once per call site."""
    return Counter(str(eqn.primitive) for eqn in staged(fun, *args))


def compiled(fun: Callable, *args: Any) -> Counter[str]:
    """How often each operation occurs in the optimised program of a function."""
    text = jax.jit(fun).lower(*args).compile().as_text()
    return Counter(re.findall(r" = \S+ ([a-z-]+)\(", text))


def lowered(fun: Callable, *args: Any, platform: str) -> Counter[str]:
    """How often each operation occurs in the program that a platform's compiler is given."""
    text = jax.jit(fun).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    return Counter(re.findall(r"stablehlo\.([a-z_]+)", text))
