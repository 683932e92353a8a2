"""The origin of each trap is named: its line, what happened, the iteration; and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from verify.traps import TRAPS

from fbp.verify import trace_nonfinite


def plain(fun, good, bad):
    return fun, bad, ()


def jitted(fun, good, bad):
    return jax.jit(fun), bad, ()


def in_a_scan(fun, good, bad):
    def total(xs):
        return jax.lax.scan(lambda c, x: (c + fun(x), None), jnp.float32(0), xs)[0]

    return total, np.stack([good, good, bad, good]), (2,)


def under_vmap(fun, good, bad):
    return lambda xs: jnp.sum(jax.vmap(fun)(xs)), np.stack([good, bad, good]), ()


def vmap_of_scan(fun, good, bad):
    total, xs, iteration = in_a_scan(fun, good, bad)
    calm = np.stack([good] * 4)
    return lambda xs: jnp.sum(jax.vmap(jax.jit(total))(xs)), np.stack([calm, xs]), iteration


WAYS = [plain, jitted, in_a_scan, under_vmap, vmap_of_scan]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_the_origin_is_named(trap, way):
    fun, x, around = way(trap.fun, trap.good, trap.bad)
    report = trace_nonfinite(fun, x)
    assert not report.ok
    origin = report.findings[0]
    assert origin.source.startswith(f"{trap.line}:")
    assert origin.message.startswith(f"{trap.situation}: ")
    assert ("is left out at" in origin.message) == trap.masked
    assert origin.iteration == (*around, *trap.iteration)
