import os
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache as cache

from fbp.commands.backend import compilation_cache, profiled, use_every_core


def cache_directory():
    return jax.config.values["jax_compilation_cache_dir"]


@pytest.fixture(autouse=True)
def as_users_have_it():
    """No directory is set, as that of the tests is."""
    of_the_tests = cache_directory()
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", of_the_tests)
    cache.reset_cache()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_cache_is_in_the_users_cache_directory_while_the_command_runs(home):
    with compilation_cache():
        assert Path(cache_directory()) == home / "fbp" / "jax"
        assert (home / "fbp" / "jax").is_dir()
    assert cache_directory() is None


@pytest.fixture
def user_directory():
    jax.config.update("jax_compilation_cache_dir", "/mine")
    yield "/mine"
    jax.config.update("jax_compilation_cache_dir", None)


def test_directory_that_the_user_has_set_stays(home, user_directory):
    with compilation_cache():
        assert cache_directory() == user_directory
    assert cache_directory() == user_directory
    assert not (home / "fbp").exists()


def test_without_a_directory_that_can_be_created_nothing_is_cached(home):
    (home / "fbp").write_text("a file")
    with compilation_cache():
        assert cache_directory() is None


def test_without_a_directory_that_can_be_written_to_nothing_is_cached(home, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with compilation_cache():
        assert cache_directory() is None


def test_number_of_devices_that_is_set_stays():
    use_every_core()
    assert len(jax.devices()) == 8


def test_trace_is_written_where_it_is_asked_for(tmp_path):
    with profiled(tmp_path):
        jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))
    assert list(tmp_path.glob("**/*.xplane.pb"))
