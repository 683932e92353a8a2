from pathlib import Path

import pytest

from fbp import InputError
from fbp.config import CNN, MLP, LogGrid
from fbp.config_file import config_of, load_config, read_tables
from fbp.structure import parse_toml

TEXT = """
name = "demo"
[data]
name = "digits"
[network]
kind = "mlp"
widths = [16]
[optimizer]
name = "sgd"
hyperparameters = { momentum = 0.9, nesterov = true }
[train]
steps = 10
batch_size = 8
evaluate_every = 5
[sweep]
learning_rate = { low = 0.01, high = 1, count = 3 }
seeds = 2
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "demo.toml"
    file.write_text(TEXT)
    return file


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_committed_config_is_read_and_has_its_files_name(path):
    assert load_config(path).name == path.stem


def test_tables_become_dataclasses(path):
    config = load_config(path)
    assert config.network == MLP((16,))
    assert config.sweep.learning_rate == LogGrid(0.01, 1.0, 3)
    assert config.optimizer.hyperparameters == {"momentum": 0.9, "nesterov": True}


def test_settings_replace_what_the_file_has_and_leave_the_rest(path):
    config = load_config(path, ["sweep.learning_rate = [0.1, 1]", "train.steps=20"])
    assert config.sweep.learning_rates == (0.1, 1.0)
    assert config.train.steps == 20
    assert config.sweep.seeds == 2


def test_network_kind_chooses_its_keys(path):
    network = "network = { kind = 'cnn', channels = [8], widths = [] }"
    assert load_config(path, ["network.kind='mlp'"]).network == MLP((16,))
    tables = {**read_tables(path), **parse_toml(network, "x")}
    assert config_of(tables, "x").network == CNN((8,), ())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("network.kind = 'mpl'", "demo.toml: network.kind: unknown value 'mpl': did you mean mlp?"),
        ("network.kind = 3", "demo.toml: network.kind: unknown value 3: Valid: mlp, cnn"),
        ("network.width = 3", "demo.toml: network.width: unknown key: did you mean widths?"),
        ("network = 3", "demo.toml: network: expected a table with the keys"),
        ("network.activation = 'rel'", "demo.toml: network.activation: expected one of relu"),
        (
            "sweep.learning_rat = 3",
            "demo.toml: sweep.learning_rat: unknown key: did you mean lea",
        ),
        ("sweep.learning_rate = 3", "demo.toml: sweep.learning_rate: expected"),
        ("sweep.learning_rate = []", "demo.toml: sweep.learning_rate: must be at least one number"),
        ("sweep.learning_rate = [-1]", "demo.toml: sweep.learning_rate[0]: must be positive"),
        (
            "sweep.learning_rate = ['a']",
            "demo.toml: sweep.learning_rate[0]: expected a number",
        ),
        ("sweep.learning_rate.low = -1", "demo.toml: sweep.learning_rate.low: must be a positive"),
        ("sweep.learning_rate.step = 1", "demo.toml: sweep.learning_rate.step: unknown key"),
        ("sweep.hyperparameters.momentum = 0.5", "demo.toml: sweep.hyperparameters.momentum: expe"),
        (
            "optimizer.hyperparameters.momentum = 'a'",
            "demo.toml: optimizer.hyperparameters",
        ),
        ("train.steps = 0", "demo.toml: train.steps: must be at least 1, got 0"),
        ("train.schedule = 'step'", "demo.toml: train.schedule: expected one of constant, cosine"),
        ("tain.steps = 1", "demo.toml: tain: unknown key: did you mean train?"),
        ("train.steps", "--set train.steps: not TOML"),
    ],
)
def test_fault_is_named_with_its_place(path, setting, message):
    with pytest.raises(InputError) as error:
        load_config(path, [setting])
    assert message in str(error.value)


def test_missing_table_is_named(tmp_path):
    (tmp_path / "x.toml").write_text('name = "x"')
    with pytest.raises(InputError, match=r"x\.toml: data: this key is missing: give a table with"):
        load_config(tmp_path / "x.toml")
