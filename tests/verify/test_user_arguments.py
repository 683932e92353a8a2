"""The arguments of a function with a custom rule, from its equation."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from fbp.autodiff import graph as g
from fbp.autodiff.user_arguments import arguments_of


def equation(fun, *args):
    graph, _ = g.stage(fun, *args)
    return next(e for e in graph.eqns if e.primitive.name.startswith("custom"))


def with_rule(fun, nondiff_argnums=()):
    ruled = jax.custom_vjp(fun, nondiff_argnums=nondiff_argnums)
    ruled.defvjp(lambda *args: (fun(*args), args), lambda *args: args[-1])
    return ruled


def with_tangents(fun):
    ruled = jax.custom_jvp(fun)
    ruled.defjvp(lambda xs, ts: (fun(*xs), ts[0]["a"]))
    return ruled


@pytest.mark.parametrize("ruled", [with_rule, with_tangents])
def test_containers_come_back(ruled):
    fun = ruled(lambda p, q: p["a"] * p["b"][0] + q)
    eqn = equation(lambda x: fun({"a": x, "b": (x,)}, x), 1.0)
    assert arguments_of(eqn, [1, 2, 3]) == ({"a": 1, "b": (2,)}, 3)


def test_settings_stand_where_they_stood():
    fun = with_rule(lambda x, bits, y, mode: jnp.round(x * bits) + y, (1, 3))
    eqn = equation(lambda x: fun(x, 4, x, "half"), 1.0)
    assert arguments_of(eqn, [1, 2], (1, 3)) == (1, 4, 2, "half")


def test_settings_that_the_equation_does_not_hold_are_refused():
    fun = partial(with_tangents(lambda p: p["a"]))
    eqn = equation(lambda x: fun({"a": x}), 1.0)
    with pytest.raises(ValueError, match="not known"):
        arguments_of(eqn, [1], (1,))
