"""Whatever a file, a path or a number is, the command line answers in one line, with status 2."""

import os
import pwd

import pytest

from fbp import InputError, cli
from fbp.commands import backend
from fbp.data import load
from fbp.records import check_available, is_complete, is_run
from fbp.structure import parse_toml
from fbp.sweep import run
from fbp.user_cache import user_cache
from tests.support.demo_config import TEXT

DEEP = "x = " + "[" * 3000 + "]" * 3000
LONG = "a" * 300


def with_text(old, new):
    assert old in TEXT
    return TEXT.replace(old, new)


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def fails(*argv, text=None):
        """What is told; nothing is left in the working directory beside the config."""
        if text is not None:
            (tmp_path / "demo.toml").write_text(text)
            argv = ("sweep", "demo.toml", *argv)
        assert cli.main(argv) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert {path.name for path in tmp_path.iterdir()} <= {"demo.toml"}
        return told

    return fails


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEEP, "nested too deeply"),
        (with_text("steps = 10", "steps = " + "1" * 5000), "a number with too many digits"),
        (with_text("steps = 10", "steps = " + "1" * 18), "train.steps: must be less than 2^31"),
        (with_text("steps = 10", "steps = 1000000000"), "train.evaluate_every: must be 1e+04 or"),
        (with_text("seeds = 2", "seeds = 1000000000"), "sweep.seeds: must be at most 100,000"),
        (with_text("seeds = 2", "seeds = 100000"), "sweep.seeds: must be so that there are at mos"),
        (
            with_text("[0.1, 1.0]", "{ low = 0.1, high = 1.0, count = 1000000000 }"),
            "sweep.learning_rate.count: must be at most 100,000",
        ),
        (
            with_text("seeds = 2", "seeds = 2, search = { kind = 'random', trials = 1000000000 }"),
            "sweep.search.trials: must be at most 100,000",
        ),
        (with_text("[0.1, 1.0]", "[1e400]"), "sweep.learning_rate[0]: must be positive, got inf"),
        (with_text("[8]", "[1000000000]"), "the states of all trials take"),
        (with_text('"digits"', f'"idx", directory = "{LONG}"'), "aaa"),
        *(
            (with_text('"demo"', f'"{name}"'), "name: must be a plain name")
            for name in ("../../x", "a/b", "..", ".", "", " ", r"a\\b", r"a\u0000b", r"a\nb", LONG)
        ),
    ],
    ids=lambda value: value[:30] if "\n" not in value else "",
)
def test_config_that_asks_too_much_is_told_in_one_line(fails, text, message):
    assert message in fails(text=text)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sweep.axes.network.widths.x = [1]", "widths is no table"),
        ("sweep.axes.train.steps.x = [1]", "steps is no table"),
        (DEEP, "nested too deeply"),
        ('data.name = "a\\u0000.csv"', "data: must be a path without a NUL"),
        ('data.directory = "a\\u0000"', "data: must be a path without a NUL"),
        (f"data.name = '{LONG}'", "no data set is called"),
        (f"data.name = '{LONG}.csv'", "aaa"),
    ],
)
def test_setting_that_fits_nowhere_is_told_in_one_line(fails, setting, message):
    assert message in fails("--set", setting, text=TEXT)


@pytest.mark.parametrize("path", ["a\0b", LONG, f"{LONG}/b"], ids=["NUL", "long", "long folder"])
@pytest.mark.parametrize(
    "command",
    [
        ["sweep"],
        ["plan"],
        ["report"],
        ["sweep", "demo.toml", "--out"],
        ["sweep", "demo.toml", "--resume", "--out"],
    ],
    ids=lambda command: command[-1],
)
def test_path_that_is_none_is_told_in_one_line(fails, tmp_path, command, path):
    (tmp_path / "demo.toml").write_text(TEXT)
    assert fails(*command, path)


@pytest.mark.parametrize("path", ["a\0b", LONG, f"{LONG}.csv"], ids=["NUL", "long", "long table"])
@pytest.mark.parametrize(
    "command",
    [
        ["fit"],
        ["runs"],
        ["configs", "show"],
        ["configs", "copy"],
        ["check"],
        ["show"],
        ["run"],
        ["experiments", "run"],
        ["predict", "model"],
        ["sweep", "demo.toml", "--profile"],
    ],
    ids=" ".join,
)
def test_path_that_is_none_is_told_by_every_command(fails, tmp_path, command, path):
    (tmp_path / "demo.toml").write_text(TEXT)
    assert fails(*command, path)


@pytest.mark.parametrize("ask", [is_run, is_complete, lambda path: check_available(path, True)])
def test_directory_that_is_none_is_told(tmp_path, ask):
    with pytest.raises(InputError):
        ask(tmp_path / LONG / "c")


def test_out_that_cannot_be_written_is_told_before_anything_trains(tmp_path, monkeypatch):
    (tmp_path / "demo.toml").write_text(TEXT)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("fbp.sweep.entry.check_gradients", None)  # not reached
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="Not a directory"):
            run(tmp_path / "demo.toml", out=out)


def test_user_without_home_and_without_entry_keeps_no_cache(monkeypatch):
    """As in a container that runs with any number as the user's."""

    def no_entry(_):
        raise KeyError

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    assert user_cache("jax") is None
    with backend.compilation_cache():
        assert "HOME" not in os.environ


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OSError(28, "no space", "f")])
def test_error_of_the_machine_is_one_line(monkeypatch, capsys, error):
    def parse(argv):
        raise error

    monkeypatch.setattr(cli, "_parse", parse)
    assert cli.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", [DEEP, "x = " + "{a=" * 3000 + "1" + "}" * 3000])
def test_deep_toml_of_any_kind_is_told(text):
    with pytest.raises(InputError, match="x: nested too deeply"):
        parse_toml(text, "x")


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_batch_larger_than_the_data_is_refused_by_every_loop(name):
    import jax
    import optax

    from fbp.nn import mlp
    from fbp.train import objective_of, train
    from fbp.train.range_test import range_test
    from fbp.train.trials import train_trials

    data = load(name)
    objective = objective_of(data)
    network, examples = mlp([objective.outputs]), (data.train.x, data.train.y)
    seeds = {"seed": jax.numpy.arange(1)}
    call = {"steps": 2, "batch_size": 10_000}
    with pytest.raises(InputError, match=r"batch_size is 10000, but .* training examples"):
        train(network, data, optax.sgd(0.1), key=jax.random.key(0), evaluate_every=1, **call)
    with pytest.raises(InputError, match=r"batch_size is 10000, but .* training examples"):
        range_test(network, objective, optax.sgd, examples, **call)
    with pytest.raises(InputError, match=r"batch_size is 10000, but .* training examples"):
        train_trials(
            network, objective, lambda _: optax.sgd(0.1), seeds, examples, measure=len, **call
        )


@pytest.mark.parametrize("rows", [0, 3])
def test_empty_validation_and_targets_of_one_column_are_refused(rows):
    import jax
    import numpy as np
    import optax

    from fbp.data import Dataset
    from fbp.data.dataset import Split
    from fbp.nn import mlp
    from fbp.train import train

    x, y = np.ones((8, 2), np.float32), np.ones((8, 1), np.float32)
    y = y if rows else y[:, 0]
    options = {"task": "regression", "classes": 0, "feature_shape": (2,)}
    parts = Split(x, y), Split(x[:rows], y[:rows]), Split(x, y)
    message = r"y has shape \[8, 1\]: give one of shape \[8\]" if rows else "no validation examples"
    call = {"key": jax.random.key(0), "steps": 1, "batch_size": 2, "evaluate_every": 1}
    with pytest.raises(InputError, match=message):
        train(mlp([1]), Dataset("own", *parts, **options), optax.sgd(0.1), **call)
