"""Other people's libraries, if they are installed: `pip install fbp-jax[interop]`."""

import functools
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import pytest

import fbp
from fbp.autodiff.rule import Rules
from fbp.testing import QUICK
from tests.support.agreement import assert_same


def client(name: str) -> ModuleType:
    """The library; without it the tests of the file are skipped.

    A warning while it is imported is its own business.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} comes with fbp-jax[interop]")


def both(fun: Callable, *args: Any, rules: Rules = fbp.RULES) -> tuple[Any, Any]:
    """`fun(value_and_grad, *args)` with fbp's and with JAX's; one compilation makes both."""
    mine = functools.partial(fbp.value_and_grad, rules=rules)
    run = lambda *args: (fun(mine, *args), fun(jax.value_and_grad, *args))
    return jax.jit(run, compiler_options=QUICK)(*args)


def assert_as_jax(
    fun: Callable, *args: Any, tolerance: float = 4, rules: Rules = fbp.RULES
) -> None:
    """`fun(value_and_grad, *args)` is the same with fbp's as with JAX's."""
    assert_same(*both(fun, *args, rules=rules), tolerance)


def assert_grad(
    fun: Callable,
    *args: Any,
    tolerance: float = 4,
    rules: Rules = fbp.RULES,
    **options: Any,
) -> None:
    """The value and gradient of a scalar function of other people's make are JAX's."""
    differentiate = lambda value_and_grad, *args: value_and_grad(fun, **options)(*args)
    assert_as_jax(differentiate, *args, tolerance=tolerance, rules=rules)
