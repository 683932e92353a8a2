"""Gradients on the device beside jax.grad's: time, and the share of the device's peak."""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import gradients
from benchmarks.accelerator.device import Device, seconds
from benchmarks.networks import mlp, transformer
from benchmarks.program import Program
from benchmarks.programs import program
from fbp.flops import flops
from fbp.verify.ulps import ulp_distance

MLP = {"layers": 8, "width": 4096, "batch": 2048}
TRANSFORMER = {"blocks": 8, "width": 1024, "heads": 16, "tokens": 512, "batch": 16}
SMALL_MLP = {"layers": 2, "width": 32, "batch": 16}
SMALL_TRANSFORMER = {"blocks": 1, "width": 32, "heads": 4, "tokens": 8, "batch": 2}
COARSER = {"cpu": 1, "gpu": 2**13, "tpu": 2**16}
"""By how much float32 products are less exact there: GPUs round their operands to TF32, whose
significand is 13 bits shorter, and TPUs to bfloat16, whose is 16 bits shorter."""


@dataclass(frozen=True)
class Step:
    """A large gradient in one dtype.

    Attributes:
      fbp, jax: seconds of one.
      ulps: the largest difference between the two, at the largest entry of its leaf.
      rate: operations per second of fbp's, by the count of jax.grad's (`fbp.flops`).
      of_peak: its share of what the device's maker says; NaN where that is not known.
      of_products: its share of what matrix products reached here.
    """

    fbp: float
    jax: float
    ulps: float
    rate: float
    of_peak: float
    of_products: float


def ratios(name: str, repeats: int, small: bool, device: Device) -> dict[str, float]:
    """fbp / jax.grad of the medians, by measure, of one of the programs of benchmarks.gradients."""
    subject = program(name, small)
    allowed = subject.ulps * COARSER[device.platform]
    measured = gradients.measure(replace(subject, ulps=allowed), repeats)
    return {m: gradients.ratio(**measured.figures[m]) for m in gradients.MEASURES}


def large(small: bool) -> dict[str, Program]:
    """Networks whose products are large enough for an accelerator."""
    if small:
        return {"mlp": mlp(**SMALL_MLP), "transformer": transformer(**SMALL_TRANSFORMER)}
    return {"mlp": mlp(**MLP), "transformer": transformer(**TRANSFORMER)}


def step(subject: Program, dtype: str, device: Device) -> Step:
    """Measure the gradient of a network in this dtype, by both."""
    inputs = jax.tree.map(lambda x: x.astype(dtype), (subject.params, *subject.data))
    losses = subject.losses()
    sides = {
        side: jax.jit(differentiate(losses[side])).lower(*inputs).compile()
        for side, differentiate in gradients.VALUE_AND_GRAD.items()
    }
    by_fbp, by_jax = seconds(*(lambda call=call: call(*inputs) for call in sides.values()))
    got, want = (jax.tree.leaves(call(*inputs)) for call in sides.values())
    rate = flops(jax.value_and_grad(subject.loss), *inputs) / by_fbp
    peak = device.peak.get("tf32" if dtype == "float32" else dtype, math.nan)
    return Step(
        fbp=by_fbp,
        jax=by_jax,
        ulps=max(_distance(a, b) for a, b in zip(got, want, strict=True)),
        rate=rate,
        of_peak=rate / peak,
        of_products=rate / device.products[dtype],
    )


def _distance(a: jax.Array, b: jax.Array) -> float:
    return float(np.max(ulp_distance(a, b, at=jnp.max(jnp.abs(b)))))
