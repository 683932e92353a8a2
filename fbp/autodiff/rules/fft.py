"""Fourier transforms, over the last dimensions. Of a complex array they are their own transpose.

A real transform keeps only half of the last dimension: the other half is its conjugate. Each of
its frequencies stands for two, but not 0, nor n/2 for even n. With n numbers, c_k times
frequency k and w_k = 1 or 2, how many frequencies k stands for:

    rfft   y_k = sum_j x_j e^(-ijk2π/n)                transposed   n irfft(conj(c_k) / w_k)
    irfft  y_j = 1/n sum_k w_k Re(x_k e^(ijk2π/n))     transposed   w_k / n conj(rfft(c))
"""

from math import prod
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives as p
from jax.lax import FftType

from fbp.autodiff.rule import Rules, transpose


def transform_back(ct: Any, _: Any, *, fft_type: Any, fft_lengths: tuple[int, ...]) -> Any:
    """Pull back a Fourier transform by its transpose."""
    size = prod(fft_lengths)
    if fft_type == FftType.RFFT:
        halved = lax.div(lax.conj(ct), stands_for(ct, fft_lengths[-1]))
        out = lax.fft(halved, FftType.IRFFT, fft_lengths)
        return lax.mul(out, np.asarray(size, out.dtype))
    if fft_type == FftType.IRFFT:
        out = lax.fft(ct, FftType.RFFT, fft_lengths)
        share = stands_for(out, fft_lengths[-1]) / np.asarray(size, out.dtype)
        return lax.conj(lax.mul(out, share))
    return lax.fft(ct, fft_type, fft_lengths)


def stands_for(half: Any, length: int) -> np.ndarray:
    """Count the frequencies of a real array that each of the stored half stands for: along the last
    axis, of size 1 along the others."""
    count = np.full(half.shape[-1], 2)
    count[:1] = 1
    if length % 2 == 0:
        count[-1:] = 1
    return count.reshape(*(1 for _ in half.shape[1:]), -1).astype(half.dtype)


RULES = Rules(transpose(p.fft_p, transform_back)).tag("forward_mode")
