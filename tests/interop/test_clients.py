"""Libraries whose code calls JAX's transforms: by one call around them, the gradients are fbp's.

The programs are those of `python -m benchmarks.clients`; docs/clients.md says which library
installs with which JAX.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from benchmarks.clients import CLIENTS
from fbp.testing import QUICK, ulps
from tests.support.clients import client

SLOW = {"quadax_adaptive", "quadax_leibniz", "brax_pendulum", "s2fft_round_trip", "optax_lbfgs"}


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in CLIENTS]
)
def test_a_client_has_the_gradients_that_jax_gives_it(name):
    program = CLIENTS[name]
    client(program.module)
    with jax.enable_x64(program.in_double):
        fun, args = program.make()
        want = jax.jit(fun, compiler_options=QUICK)(*args)
        with fbp.override_jax() as report:
            got = jax.jit(fun, compiler_options=QUICK)(*args)
    assert report.gradients.total() > 0
    assert not report.by_jax, "JAX differentiated beneath jax.vjp"
    assert jax.tree.structure(got) == jax.tree.structure(want)
    apart = [distance(a, b) for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True)]
    assert max(apart) <= program.ulps
    assert any(np.any(np.asarray(x, float) != 0) for x in jax.tree.leaves(want) if is_float(x))


def distance(a, b):
    """ULPs of the largest entry of b; infinite where integers or keys differ."""
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    if is_float(b):
        return float(ulps(a, b))
    if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
        a, b = map(jax.random.key_data, (a, b))
    return 0.0 if np.array_equal(a, b) else np.inf


def is_float(x):
    return jnp.issubdtype(x.dtype, np.inexact)
