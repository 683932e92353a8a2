"""A sweep that was interrupted goes on elsewhere, and from an older checkpoint if it must."""

from dataclasses import replace

import pytest

from fbp.config import MLP, Config, Data, Halving, Optimizer, Sweep, Train
from fbp.records import create_run
from fbp.sweep import load_problem, sweep
from fbp.verify import Agreement
from tests.support.interruption import killed_in_the_third_segment

CONFIG = Config(
    name="demo",
    data=Data("digits"),
    network=MLP((4,)),
    optimizer=Optimizer("sgd"),
    train=Train(steps=20, batch_size=16, evaluate_every=5),
    sweep=Sweep((0.1, 0.5, 1e4), 1, trials="map"),
)
PROBLEM = load_problem(CONFIG)
CHECK = Agreement(0.5, "params['w']", 1.0, 1.0, 2.0, 1e-7)


def config_of(kind):
    return replace(CONFIG, sweep=replace(CONFIG.sweep, trials=kind))


@pytest.fixture(autouse=True)
def _always_due(monkeypatch):
    monkeypatch.setattr("fbp.checkpoints.SAVING", float("inf"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    create_run(directory, "")
    sweep(CONFIG, PROBLEM, directory, CHECK)
    return (directory / "records.jsonl").read_bytes()


def on(monkeypatch, devices):
    monkeypatch.setattr("fbp.sweep.parallelism.devices_for", lambda trials: devices)


def interrupt(directory, monkeypatch, config):
    """Ends with a segment recorded that no checkpoint has, after two of them."""
    create_run(directory, "")
    with killed_in_the_third_segment(monkeypatch):
        sweep(config, PROBLEM, directory, CHECK)
    return directory / "checkpoints"


@pytest.mark.parametrize("kind", ["map", pytest.param("loop", marks=pytest.mark.slow)])
def test_sweep_goes_on_bit_for_bit_on_another_number_of_devices(
    tmp_path, monkeypatch, complete, kind
):
    on(monkeypatch, 2)
    interrupt(tmp_path / "run", monkeypatch, config_of(kind))
    on(monkeypatch, 4)
    sweep(config_of(kind), PROBLEM, tmp_path / "run", CHECK)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == complete


@pytest.mark.slow
def test_sweep_whose_trials_share_batches_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """Of three settings one is left after the first rung: fewer trials share a batch then."""
    sweep_of = Sweep((0.1, 0.2, 0.5), 2, trials="seed", batch_size=2, search=Halving(eta=3))
    config = replace(CONFIG, sweep=sweep_of)
    on(monkeypatch, 2)
    create_run(tmp_path / "whole", "")
    sweep(config, PROBLEM, tmp_path / "whole", CHECK)
    interrupt(tmp_path / "run", monkeypatch, config)
    sweep(config, PROBLEM, tmp_path / "run", CHECK)
    records = [(tmp_path / name / "records.jsonl").read_bytes() for name in ("whole", "run")]
    assert records[0] == records[1]


def test_damaged_checkpoint_costs_a_segment_and_no_record(tmp_path, monkeypatch, complete):
    checkpoints = interrupt(tmp_path / "run", monkeypatch, CONFIG)
    assert {path.name for path in checkpoints.iterdir()} == {"1", "2"}
    facts = checkpoints / "2" / "facts" / "metadata"
    facts.write_text(facts.read_text().replace('"stretches": 2', '"stretches": 1'))
    with pytest.warns(UserWarning, match="2: this checkpoint is damaged"):
        sweep(CONFIG, PROBLEM, tmp_path / "run", CHECK)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == complete
    assert not checkpoints.exists()
