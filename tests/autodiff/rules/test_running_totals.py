"""The cotangent of a part of an array is added in place to what has arrived."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total
from tests.support.jaxprs import equations

TABLE = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (40, 3)), jnp.float32)
TOKENS = jnp.asarray([3, 7, 3, 3, -1, 0, 39, 7, 21, 3])
OUTSIDE = jnp.asarray([3, 40, 90, -41, 7, 3])


def recurrent(read):
    """A loop that reads rows of a constant."""

    def run(table):
        step = lambda h, t: (jnp.tanh(h + read(table, t)), h)
        return lax.scan(step, jnp.zeros_like(table[0]), TOKENS)

    return run


def while_loop(table):
    def body(state):
        i, h = state
        return i + 1, jnp.tanh(h + table[TOKENS[i]] * table[i])

    return lax.while_loop(lambda state: state[0] < 10, body, (0, jnp.zeros_like(table[0])))[1]


def counted(table):
    body = lambda i, h: jnp.tanh(h + table[TOKENS[i]] * table[i])
    return lax.fori_loop(0, 10, body, jnp.zeros_like(table[0]))


def tied(table):
    return jnp.sin(table[TOKENS] @ table.T)


def twice(table):
    return table[TOKENS] * table[TOKENS[::-1]], table * 2.0


def in_jits(table):
    return jnp.take(table, TOKENS, axis=0) * jnp.take(table, TOKENS - 1, axis=0), tied(table)


def of_one_operand_twice(table):
    return jax.jit(lambda a, b: a[TOKENS] * b[TOKENS + 1])(table, table), table @ table.T


def outside(mode):
    return lambda table: (jnp.sin(table), table.at[OUTSIDE].get(mode=mode, fill_value=1) ** 2)


def at_a_traced_index(table):
    return jax.jit(lambda i: (table[i], table[i - 1, i - 2], jnp.sin(table)))(TOKENS[0])


def empty(table):
    return table[:0][jnp.zeros((0,), int)], jnp.sin(table[:, :0]), table[jnp.zeros((0,), int)]


PROGRAMS = {
    "loop": recurrent(lambda table, t: table[t]),
    "loop that reads twice": recurrent(lambda table, t: table[t] * table[t + 1]),
    "loop that takes": recurrent(lambda table, t: jnp.take(table, t, axis=0) * table[t]),
    "loop that reads blocks": recurrent(
        lambda table, t: lax.dynamic_slice(table, (t, 0), (2, 3)).sum(0) * table[t]
    ),
    "loop that also multiplies": recurrent(lambda table, t: table[t] @ table.T @ table / 32),
    "counted": counted,
    "tied": tied,
    "twice": twice,
    "in jits": in_jits,
    "of one operand twice": of_one_operand_twice,
    "fill": outside("fill"),
    "clip": outside("clip"),
    "at a traced index": at_a_traced_index,
    "empty": empty,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradient_of_what_reads_parts(name):
    assert_jitted_grad(lambda table: total(PROGRAMS[name](table)), TABLE, tolerance=16)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop that reads twice", "in jits"])
def test_gradient_of_complex_tables(name):
    loss = lambda table: total(jax.tree.map(jnp.abs, PROGRAMS[name](table)))
    assert_jitted_grad(loss, lax.complex(TABLE, jnp.cos(TABLE)), tolerance=16)


def test_gradient_of_a_loop_of_unknown_length():
    want = jax.jit(jax.grad(lambda table: total(counted(table))))(TABLE)
    got = jax.jit(fbp.grad(lambda table: total(while_loop(table))))(TABLE)
    assert_same(got, want, tolerance=16)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loop that reads twice", "loop that takes", "in jits"])
def test_gradient_of_a_batch(name):
    loss, tables = lambda table: total(PROGRAMS[name](table)), jnp.stack([TABLE, 2 * TABLE])
    want = jax.jit(jax.vmap(jax.grad(loss)))(tables)
    assert_same(jax.jit(jax.vmap(fbp.grad(loss)))(tables), want, tolerance=16)


@pytest.mark.slow
@pytest.mark.parametrize("outer", [jax.grad, fbp.grad], ids=["jax.grad", "fbp.grad"])
@pytest.mark.parametrize("name", ["loop that reads twice", "in jits"])
def test_second_derivative(name, outer):
    def along(library):
        grad = library.grad(lambda table: total(PROGRAMS[name](table)))
        return lambda table: jnp.vdot(grad(table), jnp.cos(TABLE))

    want = jax.jit(jax.grad(along(jax)))(TABLE)
    assert_same(jax.jit(outer(along(fbp)))(TABLE), want, tolerance=32)


def test_many_short_numbers_are_added_to_each_other_first():
    tokens = jnp.zeros(200, int)

    def loss(table):
        read = jnp.sum(table[tokens].astype(jnp.float32))
        return read + 512 * jnp.sum(table.astype(jnp.float32))

    table = TABLE.astype(jnp.bfloat16)
    assert fbp.grad(loss)(table)[0, 0] == 712


def zeros_of_the_table(name):
    """Arrays of zeros, of the table's shape, in the program of a gradient."""
    jaxpr = jax.make_jaxpr(fbp.grad(lambda table: total(PROGRAMS[name](table))))(TABLE)
    return [
        eqn
        for eqn in equations(jaxpr.jaxpr)
        if eqn.primitive.name == "broadcast_in_dim" and eqn.outvars[0].aval.shape == TABLE.shape
    ]


@pytest.mark.parametrize(
    "name",
    ["loop", "loop that reads twice", "loop that takes", "loop that reads blocks"],
)
def test_a_loop_starts_one_sum(name):
    assert len(zeros_of_the_table(name)) == 1


@pytest.mark.parametrize("name", ["tied", "in jits", "at a traced index"])
def test_no_zeros_are_added_to_what_has_arrived(name):
    assert [eqn for eqn in zeros_of_the_table(name) if eqn.invars[0].val == 0] == []
