"""A cache of compiled programs on the disk, for as long as something runs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def cached_programs(directory: Path | None, least_seconds: float | None = None) -> Iterator[None]:
    """Cache compiled programs in a directory.

    A directory set by `JAX_COMPILATION_CACHE_DIR`, or by the program, stays; without any, nothing
    is cached.

    Args:
      directory: where to.
      least_seconds: programs that are compiled faster are not cached; as JAX has it by default.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache as cache

    if directory is None or jax.config.values["jax_compilation_cache_dir"]:
        yield
        return
    settings: dict[str, str | float] = {"jax_compilation_cache_dir": str(directory)}
    if least_seconds is not None:
        settings["jax_persistent_cache_min_compile_time_secs"] = least_seconds
    before = {name: jax.config.values[name] for name in settings}
    cache.reset_cache()  # what was compiled before, without a directory, has switched it off
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        cache.reset_cache()
