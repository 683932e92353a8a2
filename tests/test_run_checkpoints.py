import json
import resource
import shutil
import signal
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from fbp import InputError, checkpoints
from fbp.checkpoints import Checkpoints


class Moments(NamedTuple):
    mean: jax.Array
    empty: jax.Array


def over(devices):
    return NamedSharding(Mesh(np.array(jax.devices()[:devices]), ("rows",)), P("rows"))


def tree(number, sharding=None, rows=12):
    """A tree of many kinds of leaves; no two numbers give the same."""
    keys = jax.jit(lambda: jax.random.split(jax.random.key(number), rows), out_shardings=sharding)()
    return {
        "linear/~/w": jax.device_put(jnp.arange(rows * 3.0).reshape(rows, 3) + number, sharding),
        "keys": keys,
        "half": jnp.full(3, number, jnp.bfloat16),
        "flag": jnp.array([True, False]),
        "moments": Moments(jnp.asarray(number, jnp.int32), jnp.zeros((0, 4))),
    }


def like(*args):
    return lambda facts: jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        tree(0, *args),
    )


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = map(jax.random.key_data, (one, other))
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def saved(directory, *numbers, losses=None):
    with Checkpoints(directory, losses=losses is not None) as remaining:
        for number in numbers:
            remaining.save(number, tree(number), {"at": number}, losses and losses[number])
    return directory


def numbers(directory):
    return sorted(int(path.name) for path in directory.iterdir())


def restored(directory, like=None, **options):
    with Checkpoints(directory) as remaining:
        return remaining.restore(like or (lambda facts: tree(0)), **options)


def test_last_checkpoint_is_restored_with_every_kind_of_leaf_and_its_facts(tmp_path):
    actual = restored(saved(tmp_path / "run", 1, 2, 3))
    assert (actual.number, actual.facts) == (3, {"at": 3})
    assert_same(actual.tree, tree(3))


def test_no_checkpoint_restores_nothing(tmp_path):
    assert restored(tmp_path / "run") is None


def test_last_two_and_the_best_are_preserved_also_of_an_earlier_run(tmp_path):
    losses = {1: 3.0, 2: 0.5, 3: 2.0, 4: 1.0, 5: 4.0, 6: 0.5, 7: 9.0}
    assert numbers(saved(tmp_path / "run", 1, 2, 3, 4, losses=losses)) == [2, 3, 4]
    assert numbers(saved(tmp_path / "run", 5, losses=losses)) == [2, 4, 5]
    assert numbers(saved(tmp_path / "other", 1, 2, 3, 4)) == [3, 4]


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_state_is_restored_onto_another_number_of_devices(tmp_path, devices):
    with Checkpoints(tmp_path / "run") as remaining:
        remaining.save(1, tree(1, over(3)), {})
    actual = restored(tmp_path / "run", like(over(devices)))
    assert_same(actual.tree, tree(1))
    assert actual.tree["linear/~/w"].sharding == over(devices)


@pytest.mark.parametrize("rows", [8, 16])
def test_first_dimension_is_cut_or_filled_where_that_is_asked_for(tmp_path, rows):
    with Checkpoints(tmp_path / "run") as remaining:
        remaining.save(1, tree(1, over(4)), {})
    actual = restored(tmp_path / "run", like(over(8), rows), resized=True)
    expected = np.zeros((rows, 3))
    expected[: min(rows, 12)] = tree(1)["linear/~/w"][:rows]
    np.testing.assert_array_equal(np.asarray(actual.tree["linear/~/w"]), expected)
    with pytest.raises(InputError, match=r"keys.*uint32\[12, 2\] in the checkpoint"):
        restored(tmp_path / "run", like(over(8), rows))


def test_checkpoint_of_another_run_is_refused(tmp_path):
    saved(tmp_path / "run", 1)
    with pytest.raises(InputError, match=r"extra.*missing in the checkpoint and float32\[2\] here"):
        restored(tmp_path / "run", lambda facts: tree(0) | {"extra": jnp.zeros(2)})
    with pytest.raises(InputError, match=r"half.*bfloat16\[3\] in the checkpoint"):
        restored(tmp_path / "run", lambda facts: tree(0) | {"half": jnp.zeros(3)})


def test_what_is_donated_after_save_returns_is_saved_as_it_was(tmp_path):
    step = jax.jit(lambda x: x * 1.5 + 1, donate_argnums=0)
    x = step(jnp.arange(2.0**20))
    with Checkpoints(tmp_path / "run") as remaining:
        for number in range(1, 6):
            expected = np.array(x)
            remaining.save(number, {"x": x}, {})
            for _ in range(20):
                x = step(x)
    actual = restored(tmp_path / "run", lambda facts: {"x": x})
    np.testing.assert_array_equal(np.asarray(actual.tree["x"]), expected)


def files(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


EVERYWHERE = [
    pytest.param(["arrays/ocdbt.process_0/d/*", "facts/metadata"], id="some"),
    pytest.param(["**/*"], id="all", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.unlink()])
@pytest.mark.parametrize("patterns", EVERYWHERE)
def test_damaged_checkpoint_is_detected_and_the_one_before_is_used(tmp_path, damage, patterns):
    complete = saved(tmp_path / "whole", 1, 2)
    actual = [path for pattern in patterns for path in (complete / "2").glob(pattern)]
    names = [path.relative_to(complete) for path in actual if path.is_file()]
    assert names
    for name in names:
        directory = tmp_path / "run"
        shutil.copytree(complete, directory)
        damage(directory / name)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = restored(directory)
        told = any("2: this checkpoint is damaged" in str(each.message) for each in caught)
        assert told or name.name in checkpoints.LATER, name  # nothing is restored from these
        assert read.number == (1 if told else 2)
        assert_same(read.tree, tree(read.number))
        assert numbers(directory) == list(range(1, read.number + 1))
        shutil.rmtree(directory)


def test_half_written_checkpoint_is_not_used(tmp_path):
    directory = saved(tmp_path / "run", 1, 2)
    (directory / "2").rename(directory / "3.orbax-checkpoint-tmp")
    assert restored(directory).number == 1
    assert numbers(directory) == [1]


def test_run_whose_checkpoints_are_all_damaged_says_what_to_do_and_keeps_them(tmp_path):
    directory = saved(tmp_path / "run", 1, 2)
    for number in ("1", "2"):
        flip(files(directory / number / "arrays" / "d")[0])
    before = files(directory)
    with pytest.raises(InputError, match=r"every checkpoint is damaged .*start again"):
        restored(directory)
    assert files(directory) == before


def test_checkpoint_that_cannot_be_written_says_so_and_leaves_those_before(tmp_path):
    directory = saved(tmp_path / "run", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    noise = np.random.default_rng(0).normal(size=100_000)
    try:
        with (
            pytest.raises(InputError, match="cannot be written"),
            Checkpoints(directory) as remaining,
        ):
            remaining.save(2, {"noise": noise}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert restored(directory).number == 1


def test_directory_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/run: a checkpoint cannot be written"):
        saved(tmp_path / "file" / "run", 1)


def test_next_checkpoint_is_due_when_the_last_was_a_tenth_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: clock[0])
    with Checkpoints(tmp_path / "run") as remaining:
        assert remaining.due()
        began = clock[0] = 10.0
        monkeypatch.setattr(remaining, "_finish", lambda: None)
        remaining._began, remaining._ended = began, began + 1
        for seconds, due in ((0.5, False), (1.0, False), (9.9, False), (10.1, True)):
            clock[0] = began + seconds
            assert remaining.due() is due


def test_format_is_as_described(tmp_path):
    directory = saved(tmp_path / "run", 7)
    assert {path.name for path in (directory / "7").iterdir()} >= {"arrays", "facts"}
    assert json.loads((directory / "7" / "facts" / "metadata").read_text()) == {"at": 7}
    names = json.loads((directory / "7" / "arrays" / "_METADATA").read_text())["tree_metadata"]
    assert "['linear/~/w']" in str(names)
