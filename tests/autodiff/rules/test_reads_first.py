"""A loop that changes parts of what it carries copies it in no iteration, forward or backward."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_jitted_grad, assert_same, total

SIZE, STEPS = 2048, 40
D = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, SIZE), jnp.float32)
W = jnp.float32(0.7)
NUMBERS = jnp.arange(1, STEPS)


def after(step, d, xs=NUMBERS):
    """The carried array after all steps, and what they return."""
    return lax.scan(step, d, xs)


def recurrence(d, w):
    return after(lambda d, i: (d.at[i].add(jnp.sin(w * d[i - 1])), None), d)


def overwriting(d, w):
    return after(lambda d, i: (d.at[i].set(w * d[i - 1] * d[i]), None), d)


def delay_line(d, w):
    """What is read is not what is written."""
    return after(lambda d, i: (d.at[i % 8].set(w * i.astype(w.dtype)), d[i % 8] * w), d)


def two_writes(d, w):
    def step(d, i):
        d = d.at[i].add(jnp.sin(w * d[i - 1]))
        return d.at[i + 1].multiply(jnp.cos(d[i])), d[i] * d[i + 2]

    return after(step, d)


def blocks(d, w):
    def step(d, i):
        block = lax.dynamic_slice(d, (i,), (4,))
        return lax.dynamic_update_slice(d, jnp.tanh(w * block), (i + 2,)), block

    return after(step, d)


def fori_loop(d, w):
    return lax.fori_loop(1, STEPS, lambda i, d: d.at[i].add(jnp.sin(w * d[i - 1])), d)


def outside(mode):
    def run(d, w):
        def step(d, i):
            x = d.at[i - 3].get(mode=mode, fill_value=0)
            return d.at[i - 2].add(jnp.sin(w * x), mode=mode), None

        return after(step, d, jnp.arange(SIZE - 8, SIZE + 8))

    return run


def read_after_the_last_write(d, w):
    def step(d, i):
        d = d.at[i].add(w)
        return d, jnp.sin(d[i])

    return after(step, d)


def read_as_a_whole(d, w):
    return after(lambda d, i: (d.at[i].add(w * jnp.sum(d)), d[i - 1]), d)


PROGRAMS = {
    "recurrence": recurrence,
    "overwriting": overwriting,
    "delay line": delay_line,
    "two writes": two_writes,
    "blocks": blocks,
    "fori_loop": fori_loop,
    "fill": outside("fill"),
    "clip": outside("clip"),
    "read after the last write": read_after_the_last_write,
    "read as a whole": read_as_a_whole,
}


SLOW = {*PROGRAMS} - {"recurrence", "delay line", "clip"}


def marked(names):
    """Names of programs, those that take long marked as such."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names]


@pytest.mark.parametrize("name", marked(PROGRAMS))
def test_gradient_of_a_loop_that_changes_parts(name):
    fun = PROGRAMS[name]
    assert_jitted_grad(lambda *args: total(fun(*args)), D, W, argnums=(0, 1), tolerance=64)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["complex64", "bfloat16"])
def test_gradient_in_other_dtypes(dtype):
    def loss(d, w):
        return jnp.sum(jnp.abs(recurrence(d, w)[0]) ** 2).astype(jnp.float32)

    d = D.astype(dtype) if dtype == "bfloat16" else lax.complex(D, D[::-1] / 3)
    assert_jitted_grad(loss, d, W.astype(dtype), argnums=(0, 1), tolerance=64)


@pytest.mark.slow
def test_gradient_of_a_batch():
    loss = lambda d, w: total(two_writes(d, w))
    batch = jnp.stack([D, D[::-1]]), jnp.stack([W, 2 * W])
    want = jax.jit(jax.vmap(jax.grad(loss, (0, 1))))(*batch)
    assert_same(jax.jit(jax.vmap(fbp.grad(loss, (0, 1))))(*batch), want, tolerance=64)


@pytest.mark.slow
@pytest.mark.parametrize("outer", [jax.grad, fbp.grad], ids=["jax.grad", "fbp.grad"])
def test_second_derivative(outer):
    def along(library):
        grad = library.grad(lambda d, w: total(recurrence(d, w)))
        return lambda d, w: jnp.vdot(grad(d, w), jnp.cos(D))

    want = jax.jit(jax.grad(along(jax), (0, 1)))(D, W)
    assert_same(jax.jit(outer(along(fbp), (0, 1)))(D, W), want, tolerance=64)


def copied_by_iterations(compiled):
    """The shapes that loops copy in each iteration, of at least as many entries as the array."""
    text = compiled.as_text()
    bodies = re.findall(r"\bbody=%?([\w.\-]+)", text)
    computations = dict(re.findall(r"^%?([\w.\-]+) \(.*?\{\n(.*?)^\}", text, re.M | re.S))
    assert bodies
    shapes = [
        shape
        for name in bodies
        for shape in re.findall(r"= \w+\[([\d,]*)\]\S* copy\(", computations[name])
    ]
    return [s for s in shapes if np.prod([int(n) for n in s.split(",") if n] or [1]) >= SIZE]


@pytest.mark.optimized
@pytest.mark.parametrize("name", marked(["recurrence", "delay line", "two writes"]))
def test_no_iteration_copies_what_it_changes_in_part(name):
    fun = PROGRAMS[name]
    gradient = jax.jit(fbp.grad(lambda *args: total(fun(*args)), (0, 1)))
    assert copied_by_iterations(gradient.lower(D, W).compile()) == []


def test_small_arrays_are_copied():
    grad = fbp.grad(lambda d: total(recurrence(d, W)))
    assert "rng_uniform" not in str(jax.make_jaxpr(grad)(D[: STEPS + 1]))
    assert "rng_uniform" in str(jax.make_jaxpr(grad)(D))
