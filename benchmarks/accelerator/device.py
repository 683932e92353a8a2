"""The device that JAX finds, and what its maker says that it can do."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jax

PEAKS = {
    "V100": {"float32": 15.7e12},
    "A100": {"float32": 19.5e12, "tf32": 156e12, "bfloat16": 312e12},
    "L4": {"float32": 30.3e12, "tf32": 60e12, "bfloat16": 121e12},
    "H100 PCIe": {"float32": 51e12, "tf32": 378e12, "bfloat16": 756e12},
    "H100": {"float32": 67e12, "tf32": 494.5e12, "bfloat16": 989.5e12},
    "H200": {"float32": 67e12, "tf32": 494.5e12, "bfloat16": 989.5e12},
    "TPU v4": {"bfloat16": 275e12},
    "TPU v5 lite": {"bfloat16": 197e12},
    "TPU v5": {"bfloat16": 459e12},
    "TPU v6 lite": {"bfloat16": 918e12},
}
"""Dense floating-point operations per second, by a part of the device's name, from NVIDIA's data
sheets (half of what they give with sparsity) and Google's pages of TPU versions."""


@dataclass(frozen=True)
class Device:
    """What is measured on.

    Attributes:
      kind: as JAX names it; `platform` is cpu, gpu or tpu, `count` how many there are.
      memory: bytes of one; None where JAX does not know.
      versions: of Python and the libraries.
      peak: operations per second by dtype, as its maker says; empty where it is not in the list.
      products: operations per second of large matrix products by dtype, measured.
    """

    kind: str
    platform: str
    count: int
    memory: int | None
    versions: dict[str, str]
    peak: dict[str, float]
    products: dict[str, float]


def measure_device(size: int) -> Device:
    """Describe the device; `size` is that of the matrix products."""
    first, *_ = jax.devices()
    limits = first.memory_stats() or {}
    return Device(
        kind=first.device_kind,
        platform=first.platform,
        count=jax.device_count(),
        memory=limits.get("bytes_limit"),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("fbp-jax", "jax", "jaxlib", "optax")},
            "platform": first.client.platform_version.strip().splitlines()[0],
        },
        peak=peak_of(first.device_kind),
        products={name: _product(name, size) for name in ("float32", "bfloat16")},
    )


def peak_of(kind: str) -> dict[str, float]:
    """Return what the maker states of a device of this kind.

    >>> peak_of("NVIDIA H100 80GB HBM3")["bfloat16"]
    989500000000000.0
    >>> peak_of("cpu")
    {}
    """
    return next((peak for part, peak in PEAKS.items() if part in kind), {})


def seconds(*calls: Callable[[], Any], least: float = 0.2) -> list[float]:
    """Of one call of each, the fastest of five rounds of about `least` seconds, turn by turn."""
    counts = []
    for call in calls:
        jax.block_until_ready(call())
        counts.append(max(1, int(least / max(_time(call, 1), 1e-6))))
    rounds = [[_time(*each) for each in zip(calls, counts, strict=True)] for _ in range(5)]
    return list(map(min, zip(*rounds, strict=True)))


def _time(call: Callable[[], Any], count: int) -> float:
    begin = time.perf_counter()
    jax.block_until_ready([call() for _ in range(count)])
    return (time.perf_counter() - begin) / count


def _product(dtype: str, size: int) -> float:
    """Operations per second of a square matrix product, at JAX's default precision."""
    square = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(lambda x: x @ x)
    return 2 * size**3 / seconds(lambda: product(square))[0]
