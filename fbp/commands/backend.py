"""Set JAX up for a command of fbp; a program that imports fbp does so itself."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fbp.compilation_cache import cached_programs
from fbp.user_cache import user_cache


def use_every_core() -> None:
    """Use as many CPU devices as there are cores, so that a sweep's trials are divided over them.

    What the user has set by `XLA_FLAGS` or `JAX_NUM_CPU_DEVICES` stays, and so does a backend
    that has been started.
    """
    import jax

    unset = jax.config.values["jax_num_cpu_devices"] == -1
    if unset and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", cores)


def devices() -> str:
    """Describe JAX's devices: number, kind, the memory of one if it is known, the versions.

    >>> import jax
    >>> devices().endswith(f", JAX {jax.__version__}")
    True
    """
    import jax

    first, *_ = jax.devices()
    memory = (first.memory_stats() or {}).get("bytes_limit")
    each = "" if memory is None else f" with {memory / 2**30:.1f} GiB each"
    hosts = "" if jax.process_count() == 1 else f" of {jax.process_count()} processes"
    return f"{jax.device_count()} x {first.device_kind}{each}{hosts}, JAX {jax.__version__}"


@contextlib.contextmanager
def profiled(directory: Path | None) -> Iterator[None]:
    """Write a trace of what runs into a directory, if there is one."""
    import jax

    if directory is None:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)  # tried before anything trains
    with jax.profiler.trace(directory):
        yield


@contextlib.contextmanager
def compilation_cache() -> Iterator[None]:
    """Cache compiled programs in the user's cache directory, fbp/jax.

    A directory set by `JAX_COMPILATION_CACHE_DIR` stays; without one that can be written to,
    nothing is cached.
    """
    import jax

    is_set = jax.config.values["jax_compilation_cache_dir"]
    with cached_programs(None if is_set else user_cache("jax")):
        yield
