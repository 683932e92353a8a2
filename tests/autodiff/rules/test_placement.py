import jax
import jax.numpy as jnp
import numpy as np
import pytest
from agreement import assert_grad, assert_same
from jax import lax
from jax.extend.core import primitives as p
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from table import Case, by_primitive, check_composed, check_covers, check_first_order

import fbp
from fbp.autodiff.rules.placement import RULES


def rows():
    return NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))


def constrained(x):
    return jnp.sin(lax.with_sharding_constraint(x * 2, rows()))


CASES = [
    Case(p.sharding_constraint_p, constrained, ((8, 3),)),
    Case(p.sharding_constraint_p, constrained, ((8, 0),)),
    Case(p.device_put_p, lambda x: jnp.sin(jax.device_put(x)), ((3,),)),
    Case(p.device_put_p, lambda x, y: jax.device_put((x, y, x * y))[1:], ((3,), (3,))),
]


def test_every_rule_of_placement_has_a_case():
    check_covers(RULES, CASES)


@by_primitive(CASES)
def test_placement(group, dtype):
    check_first_order(group, dtype)


@by_primitive(CASES, ["float32"])
def test_placement_composed(group, dtype):
    check_composed(group, dtype)


def test_a_cotangent_is_sharded_as_its_value():
    x = jnp.ones((8, 3))
    gradient = jax.jit(fbp.grad(lambda x: jnp.sum(constrained(x))))(x)
    assert gradient.sharding.is_equivalent_to(rows(), 2)


@pytest.mark.parametrize("source", [None, 0])
def test_a_gradient_through_another_device(source):
    devices = jax.devices()
    x = jnp.arange(3.0)
    x = x if source is None else jax.device_put(x, devices[source])

    def loss(x):
        return jnp.sum(jnp.sin(jax.device_put(x, devices[1])))

    assert_same(fbp.grad(loss)(x), jax.grad(loss)(x))


def test_a_gradient_within_another_device_and_back():
    devices = jax.devices()

    def loss(x):
        there = jnp.sin(jax.device_put(x, devices[1]))
        return jnp.sum(jax.device_put(there, devices[0], src=devices[1]))

    assert_grad(loss, jax.device_put(jnp.arange(3.0), devices[0]))
