"""Fourier transforms: every kind, odd and even lengths, one to three dimensions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p
from jax.lax import FftType

import fbp
from fbp.autodiff.rules import fft
from fbp.testing import COMPLEX, Case
from tests.support.agreement import assert_same, total
from tests.support.table import rule_tests

REAL = ("float32", "float64")
EXACT = ("float64", "complex128")


def case(kind, lengths, *shape):
    dtypes = REAL if kind is FftType.RFFT else COMPLEX
    transform = functools.partial(lax.fft, fft_type=kind, fft_lengths=lengths)
    return Case(p.fft_p, transform, (shape,), dtypes, 8, name=f"{kind.name} {lengths} of {shape}")


CASES = [
    *(
        case(kind, lengths, 2, 3, *lengths)
        for kind in (FftType.FFT, FftType.IFFT, FftType.RFFT)
        for lengths in ((8,), (7,), (1,), (2,), (3, 4), (2, 3, 5))
    ),
    *(
        case(FftType.IRFFT, lengths, 2, 3, *lengths[:-1], lengths[-1] // 2 + 1)
        for lengths in ((8,), (7,), (1,), (2,), (3, 4), (2, 3, 5))
    ),
    case(FftType.FFT, (4,), 0, 4),
    case(FftType.RFFT, (4,), 0, 4),
    case(FftType.IRFFT, (4,), 0, 3),
]


TestRules = rule_tests(fft.RULES, CASES, composed=EXACT)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jnp.fft.fft(x, 3),
        lambda x: jnp.fft.ifft(x, 6, axis=0),
        lambda x: jnp.fft.rfft2(x, norm="ortho"),
        lambda x: jnp.fft.irfft(x[..., :3], 5),
        lambda x: jnp.fft.irfftn(x.astype("complex64"), norm="forward"),
        lambda x: jnp.fft.hfft(x[..., :3]),
        lambda x: jnp.fft.ihfft(x),
        lambda x: jax.scipy.signal.fftconvolve(x, x[:2, :2]),
    ],
    ids=["cut", "padded", "rfft2", "irfft", "irfftn", "hfft", "ihfft", "fftconvolve"],
)
def test_jax_numpys_transforms_have_jaxs_gradient(fun):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)

    def loss(x):
        y = fun(x)
        return total((y.real, y.imag))

    assert_same(fbp.grad(loss)(x), jax.grad(loss)(x), 8)


def test_a_users_rule_may_transform_tangents():
    @jax.custom_jvp
    def smooth(x):
        return jnp.fft.irfft(jnp.fft.rfft(x) * 0.5, 5)

    smooth.defjvp(lambda x, t: (smooth(*x), jnp.fft.irfft(jnp.fft.rfft(*t) * 0.5, 5)))
    x = jnp.linspace(0.0, 1.0, 5)
    assert_same(fbp.grad(lambda x: total(smooth(x)))(x), jax.grad(lambda x: total(smooth(x)))(x))
