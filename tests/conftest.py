"""Every test runs strictly: no rank promotion, no dtype promotion, eight CPU devices. None fails
because the machine is slow.

Nearly all the time of the tests is XLA's, and most of it goes into making programs fast that run
once. So XLA does little of that here, but in some folders and for tests marked `optimized`; and
what it compiled is read again by the next run, by the other workers and by the processes that
tests start. With `XLA_FLAGS` set, be it to nothing, XLA optimizes as it says.
"""

import gc
import itertools
import os
import threading
from pathlib import Path
from unittest import mock

import hypothesis
import jax
import pytest
from jax._src import compiler
from jax._src.interpreters import mlir

COMPILED_ONCE = {
    "jax_compilation_cache_dir": str(Path(__file__).parents[1] / ".cache" / "jax"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for name, value in COMPILED_ONCE.items():
    if name.upper() not in os.environ:
        os.environ[name.upper()] = str(value)  # for the processes that tests start
        jax.config.update(name, value)

UNOPTIMIZED = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
if jax.__version_info__ < (0, 11):  # later ones have no such flag
    UNOPTIMIZED["xla_cpu_use_fusion_emitters"] = False

OPTIMIZED = {"automl", "docs", "laboratory", "multihost", "sweep"}
"""Folders whose tests train for long, compare bits, or show the numbers that users see."""

OPTIONS = compiler.get_compile_options


def unoptimized_options(*args, env_options_overrides=None, **kwargs):
    """JAX's compile options, with what a jit says for itself over those of the tests."""
    overrides = UNOPTIMIZED | (env_options_overrides or {})
    return OPTIONS(*args, env_options_overrides=overrides, **kwargs)


def pytest_collection_finish():
    """Let the collector of cycles leave alone what was imported, and look for new ones seldom:
    programs hold so many objects that it takes an eighth of the time otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Run a test, with its fixtures, at the optimization level that it asks for."""
    asked = item.get_closest_marker("optimized") or item.path.parent.name in OPTIMIZED
    options = OPTIONS if asked or "XLA_FLAGS" in os.environ else unoptimized_options
    with mock.patch.object(compiler, "get_compile_options", options):
        return (yield)


if jax.__version_info__ < (0, 11):  # later ones use a context again by themselves, ten times
    NEW_CONTEXT = mlir.make_ir_context
    CONTEXTS = threading.local()

    def remembered_context():
        """An MLIR context, which takes longer to make than most programs to lower; a new one after
        100 programs, since it forgets no type or attribute."""
        number = next(CONTEXTS.__dict__.setdefault("programs", itertools.count()))
        if number % 100 == 0:
            CONTEXTS.context = NEW_CONTEXT()
        return CONTEXTS.context

    mlir.make_ir_context = remembered_context

jax.config.update("jax_traceback_in_locations_limit", 1)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")


@pytest.fixture
def x64():
    """Run the test with 64-bit floats."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion():
    """Run the test with JAX's usual dtype promotion: optax's Adam and schedules add integers to
    floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def fbp_fails(capsys):
    """Runs a command line that must fail as bad input does; its one line on stderr."""

    from fbp.cli import main

    def run(*argv):
        assert main([str(word) for word in argv]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("fbp: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err

    return run
