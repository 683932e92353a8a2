"""A cache of compiled programs on the disk, for as long as something runs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def cached_programs(directory: Path | None) -> Iterator[None]:
    """Cache compiled programs in a directory, the small ones too.

    JAX leaves out what compiles in less than a second; but a command compiles some fifty such
    programs, which take a quarter of a small sweep's time and half a megabyte. A directory set by
    `JAX_COMPILATION_CACHE_DIR`, or by the program, stays; without any, nothing is cached.

    Args:
      directory: where to.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache as cache

    if directory is None or jax.config.values["jax_compilation_cache_dir"]:
        yield
        return
    settings: dict[str, str | float] = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
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
