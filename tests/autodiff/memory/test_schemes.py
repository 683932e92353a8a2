"""Every scheme computes the same function, and the same gradient."""

import chex
import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fbp
from fbp.autodiff.graph import stage
from fbp.autodiff.interpret import eval_graph
from fbp.autodiff.memory.estimate import peak, transferred, work
from fbp.autodiff.memory.schemes import Scheme, apply, schemes

TABLE = jnp.arange(12.0).reshape(3, 4) / 7
SCHEMES = [
    Scheme(2),
    Scheme(2, "nothing"),
    Scheme(3, "products"),
    Scheme(stretches=(3,)),
    Scheme(stretches=(2, 2), stored="products"),
    Scheme(2, "nothing", (2,)),
    Scheme(iterations="products", stretches=(2, 2), stored="products", host=True),
    Scheme(iterations="nothing", stretches=(3,), host=True),
]


def network(length, reverse):
    """Scans, jits, constants, several results and a branch."""

    def fun(w, x):
        x = jnp.sin(x) + TABLE[0, 0]
        rows = jnp.linspace(0.1, 1.0, length)

        def step(carry, row):
            total, h = carry
            h = jnp.tanh(h * row) @ w
            return (total + jnp.sum(h), h), h * row

        (total, h), hs = lax.scan(step, (0.0, x), rows, reverse=reverse)
        y = jax.jit(lambda h: jnp.exp(-h) @ w)(h)
        z = lax.cond(jnp.sum(y) > 0, jnp.sin, jnp.cos, y)
        return total + jnp.sum(z * h) + jnp.sum(hs**2), hs

    return fun


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize(("length", "reverse"), [(7, False), (8, True), (11, True)])
def test_a_scheme_changes_neither_value_nor_gradient(scheme, length, reverse):
    fun = network(length, reverse)
    w, x = TABLE[:, :3] - 0.5, jnp.ones(3)
    graph, _ = stage(fun, w, x)
    divided = apply(scheme, graph)

    def run(w, x):
        out, *_ = eval_graph(divided, (w, x))
        return out

    chex.assert_trees_all_close(eval_graph(divided, (w, x)), eval_graph(graph, (w, x)), rtol=1e-6)
    both = jax.jit(fbp.grad(run, (0, 1))), jax.jit(jax.grad(lambda *a: fun(*a)[0], (0, 1)))
    chex.assert_trees_all_close(both[0](w, x), both[1](w, x), rtol=2e-5, atol=1e-5)


def test_no_scheme_leaves_the_program_as_it_is():
    graph, _ = stage(network(8, False), TABLE[:, :3], jnp.ones(3))
    assert apply(Scheme(), graph) is graph


@given(st.integers(2, 300), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_schemes_of_a_chain_are_few_and_distinct(count, width):
    def chain(x):
        for _ in range(count):
            x = lax.sin(x)
        return x

    found = list(schemes(stage(chain, jnp.ones(width))[0]))
    assert len(found) == len(set(found)) <= 16
    assert found[0] == Scheme()


def test_work_counts_the_trips_of_a_scan_and_both_factors_of_a_product():
    w = jnp.ones((3, 3))
    one = work(stage(lambda x: x @ w, jnp.ones((2, 3)))[0])
    assert one == 2 * 2 * 3 * 3
    five = stage(lambda x: lax.scan(lambda c, _: (c @ w, None), x, length=5), jnp.ones((2, 3)))[0]
    assert work(five) == 5 * one


def test_the_peak_is_that_of_values_that_are_alive_at_once():
    size = 4 * 10
    graph, _ = stage(lambda x: lax.sin(lax.sin(lax.sin(x))), jnp.ones(10))
    assert peak(graph) == 2 * size
    graph, _ = stage(lambda x: (lax.sin(x), lax.cos(x), lax.exp(x)), jnp.ones(10))
    assert peak(graph) == 3 * size


def test_only_what_the_program_makes_and_is_read_again_goes_to_host_memory():
    def chain(w, x):
        for _ in range(8):
            x = jnp.tanh(x @ w)
        return jnp.sum(x)

    w, x = jnp.ones((4, 4)), jnp.ones((32, 4))
    graph, _ = stage(chain, w, x)

    def gradient_of(scheme):
        divided = apply(scheme, graph)
        return stage(fbp.grad(lambda *args: eval_graph(divided, args)[0], (0, 1)), w, x)[0]

    plain, on_host = (gradient_of(Scheme(stretches=(4,), host=host)) for host in (False, True))
    assert transferred(plain) == 0
    # the inputs of the second and the third stretch; the first one's is the program's own, and the
    # last is no checkpoint
    assert transferred(on_host) == 2 * 2 * x.nbytes
    assert peak(on_host) < peak(plain)
    named = [scheme for scheme in schemes(graph, host=True) if scheme.host]
    assert named
    assert not any(scheme.host for scheme in schemes(graph))


def test_keys_and_scalars_of_a_loop_stay_on_the_device():
    def walk(x):
        def step(carry, _):
            key, count, x = carry
            key, drawn = jax.random.split(key)
            return (key, count + 1, jnp.sin(x) * jax.random.normal(drawn, x.shape)), None

        carry = (jax.random.key(0), 0, x)
        return jnp.sum(lax.scan(step, carry, None, length=6)[0][2])

    x = jnp.linspace(0.5, 1.5, 8)
    divided = apply(Scheme(iterations="nothing", host=True), stage(walk, x)[0])
    gradient = fbp.grad(lambda x: eval_graph(divided, (x,))[0])
    assert transferred(stage(gradient, x)[0]) == 2 * 6 * x.nbytes
    chex.assert_trees_all_close(jax.jit(gradient)(x), jax.grad(walk)(x), rtol=1e-6)
