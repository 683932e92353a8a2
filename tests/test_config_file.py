from pathlib import Path

import pytest

from fbp import InputError
from fbp.config import CNN, MLP, RNN, Halving, LogGrid, RandomSearch, Range
from fbp.config_file import config_of, load_config, read_tables, variants_of
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
        (
            "train.memory = '8'",
            "demo.toml: train.memory: must be a number and a unit, such as '8 G",
        ),
        ("train.memory = 8", "demo.toml: train.memory: expected a string, got 8"),
        ("tain.steps = 1", "demo.toml: tain: unknown key: did you mean train?"),
        ("train.steps", "--set train.steps: not TOML"),
        ("optimizer.name = sgd", "text in quotes: --set 'optimizer.name=\"adam\"'"),
        ("sweep.search = { kind = 'rando' }", "sweep.search.kind: unknown value 'rando': did you"),
        ("sweep.search = { kind = 'random' }", "sweep.search.trials: this key is missing"),
        ("sweep.axes.trian.x = [1]", "sweep.axes.trian.x: unknown value 'trian': did you mean tr"),
        ("sweep.axes.train.accumulat = [1]", "train.accumulat: unknown key: did you mean accumul"),
        ("sweep.axes.train.steps = [1]", "sweep.axes.train.steps: trials that differ in it cannot"),
        ("sweep.axes.train.batch_size = [1]", "sweep.axes.train.batch_size: also in train.batch_"),
        ("sweep.axes.train.accumulate = 2", "sweep.axes.train.accumulate: expected an array of v"),
        ("sweep.axes.train.accumulate = []", "sweep.axes.train.accumulate: expected an array of"),
        ("sweep.axes.train.accumulate = [2, 2]", "axes.train.accumulate: must be without repetit"),
        ("sweep.axes.train.accumulate = [1, 0]", "with train.accumulate = 0: train.accumulate: m"),
        (
            "sweep.axes.optimizer.hyperparameters.b1 = [1]",
            "sweep.axes.optimizer.hyperparameters.b1: give it as sweep.hyperparameters.b1",
        ),
    ],
)
def test_fault_is_named_with_its_key(path, setting, message):
    with pytest.raises(InputError) as error:
        load_config(path, [setting])
    assert message in str(error.value)


def test_missing_table_is_named(tmp_path):
    (tmp_path / "x.toml").write_text('name = "x"')
    with pytest.raises(InputError, match=r"x\.toml: data: this key is missing: give a table with"):
        load_config(tmp_path / "x.toml")


AXES = """
name = "demo"
data.name = "digits"
network.activation = "tanh"
optimizer.name = "adam"
train = { steps = 10, evaluate_every = 5 }
[sweep]
learning_rate = { low = 0.01, high = 1 }
seeds = 2
hyperparameters.b1 = { low = 0, high = 0.9, scale = "linear" }
search = { kind = "random", trials = 4 }
[sweep.axes]
train.batch_size = [16, 32]
network.widths = [[8], [8, 4]]
network.kind = ["mlp"]
optimizer.hyperparameters.nesterov = [false, true]
"""


def variants(text=AXES):
    return variants_of(config_of(parse_toml(text, "x"), "x"))


def test_config_with_axes_is_that_of_their_first_values():
    config = config_of(parse_toml(AXES, "x"), "x")
    assert config.network == MLP((8,), "tanh")
    assert config.train.batch_size == 16
    assert config.sweep.search == RandomSearch(4)
    assert config.sweep.hyperparameters == {"b1": Range(0.0, 0.9, "linear")}


def test_variants_are_all_combinations_and_differ_in_nothing_else():
    actual = variants()
    assert [
        (v.config.train.batch_size, v.config.network, v.config.optimizer.hyperparameters)
        for v in actual
    ] == [
        (batch, MLP(widths, "tanh"), {"nesterov": nesterov})
        for batch in (16, 32)
        for widths in ((8,), (8, 4))
        for nesterov in (False, True)
    ]
    assert all(v.config.sweep.axes == {} for v in actual)
    assert len({(v.config.data, v.config.sweep.search) for v in actual}) == 1


def test_values_of_an_axis_are_all_numbers_or_all_text():
    assert variants()[2].values == {
        "train.batch_size": 16,
        "network.widths": "8-4",
        "network.kind": "mlp",
        "optimizer.hyperparameters.nesterov": "false",
    }
    single = AXES.replace("[[8], [8, 4]]", "[[8], [4]]")
    assert [v.values["network.widths"] for v in variants(single)][::2] == [8, 4, 8, 4]


def test_table_may_be_an_axis():
    text = AXES.split("[sweep.axes]")[0].replace('network.activation = "tanh"', "")
    text += """[sweep.axes]
    train.batch_size = [16]
    network = [{ kind = "mlp", widths = [8] }, { kind = "rnn", widths = [4], cell = "gru" }]
    """
    actual = variants(text)
    assert [v.config.network for v in actual] == [MLP((8,)), RNN((4,), "gru")]
    assert actual[1].values["network"] == "kind rnn, widths 4, cell gru"


def test_halving_is_read():
    text = AXES.replace('{ kind = "random", trials = 4 }', '{ kind = "halving", trials = 4 }')
    assert config_of(parse_toml(text, "x"), "x").sweep.search == Halving(3, 4)
