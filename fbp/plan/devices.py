"""The devices to plan for: those present, or those of a TPU slice that is elsewhere."""

import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies

from fbp.errors import InputError

GIB = 2**30
HBM = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32}
"""GiB of a chip: https://docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e."""
EXAMPLES = "v5e:2x2, v5e:4x4, v6e:2x4, v4:2x2x1, v5p:2x2x2"
NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""libtpu asks Google Cloud for nothing, since the topology's name says what counts, and lets other
processes load it too, since none of them runs anything."""


@dataclass(frozen=True)
class DeviceTarget:
    """Devices of one kind.

    Attributes:
      name: of the slice, or `this machine`.
      devices: all of them; of a TPU v4, two a chip.
      memory: bytes that each has, None if that is not known.

    >>> local_target().name
    'this machine'
    """

    name: str
    devices: tuple[Any, ...]
    memory: int | None

    @property
    def kind(self) -> str:
        """The devices' kind, as JAX names it."""
        return self.devices[0].device_kind


def local_target() -> DeviceTarget:
    """Return the devices that JAX finds.

    Returns:
      The target.

    >>> len(local_target().devices) == jax.device_count()
    True
    """
    devices = tuple(jax.devices())
    return DeviceTarget(
        "this machine", devices, (devices[0].memory_stats() or {}).get("bytes_limit")
    )


def tpu_slice(name: str) -> DeviceTarget:
    """Return a TPU slice, known by its compiler alone.

    Returns:
      The target.

    Raises:
      InputError: the compiler, libtpu, is not installed, or does not know the name.

    >>> tpu_slice("no such slice")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: ...
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"to compile for {name} takes the TPU's compiler: pip install 'fbp-jax[tpu]'"
        )
    for key, value in NO_TPU.items():
        os.environ.setdefault(key, value)
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"--target {name}: no such TPU slice ({error}): give one such as {EXAMPLES}"
        ) from error
    chips = {tuple(device.coords) for device in devices}
    kind = devices[0].device_kind
    memory = HBM[kind] * GIB * len(chips) // len(devices) if kind in HBM else None
    return DeviceTarget(name, tuple(devices), memory)
