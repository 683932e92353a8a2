"""A sweep that is recorded: nothing else changes, and a trial's layers are those of `train`."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fbp.config_file import config_of, problem_config
from fbp.data.dataset import Dataset, Split
from fbp.errors import InputError
from fbp.nn import mlp
from fbp.recording import LAYERS, recordings
from fbp.report.run_directory import read_run
from fbp.sweep import Problem, merge, run
from fbp.sweep.study import studies_of
from fbp.train import objective_of, train
from fbp.train.engine import keys_of
from fbp.train.recorder import Recorder
from fbp.train.sharding import data_mesh
from fbp.verify import Agreement
from tests.support.interruption import killed_in_the_third_segment

X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
ROWS = Split(X, X[:, 0] * X[:, 1])
LINE = Dataset("product", ROWS, ROWS, ROWS, "regression", 0, (3,))
PROBLEM = Problem(LINE, mlp([4, 1]), objective_of(LINE), (8, 3), optimizer=optax.sgd)
TRAIN = {"steps": 6, "batch_size": 8, "evaluate_every": 2, "record": True}
SWEEP = {"learning_rate": [0.1, 1e30], "seeds": 2, "trials": "map"}


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch):
    """Gradients are checked elsewhere."""
    outcome = Agreement(0.5, "params['w']", 1.0, 1.0, 2.0, 1e-7)
    for module in ("entry", "part"):
        monkeypatch.setattr(f"fbp.sweep.{module}.check_gradients", lambda studies: outcome)


def recorded(out, sweep=SWEEP, record=True, problem=PROBLEM, **options):
    """Train; return the lines of the records."""
    run(problem, out=out, train=TRAIN | {"record": record}, sweep=SWEEP | sweep, **options)
    return (out / "records.jsonl").read_text().splitlines()


def layers_of(lines):
    return recordings(json.loads(line) for line in lines)


def others(lines):
    return [line for line in lines if json.loads(line)["kind"] != LAYERS]


@pytest.fixture(scope="module")
def by_map(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fbp.sweep.entry.check_gradients", lambda studies: Agreement(*[0.0] * 6))
        return recorded(tmp_path_factory.mktemp("map") / "run")


def test_a_recorder_changes_no_other_byte(tmp_path, by_map):
    assert others(by_map) == recorded(tmp_path / "run", record=False)
    assert len(by_map) > len(others(by_map))


@pytest.mark.parametrize("way", ["loop", pytest.param("seed", marks=pytest.mark.slow)])
def test_records_of_trials_in_turn_are_the_same_in_every_way(tmp_path, by_map, way):
    """The loop is over eight devices."""
    assert recorded(tmp_path / "run", {"trials": way}) == by_map


@pytest.mark.slow
def test_trials_side_by_side_are_recorded_to_rounding(tmp_path, by_map):
    lines = recorded(tmp_path / "recorded", {"trials": "vmap"})
    assert others(lines) == recorded(tmp_path / "plain", {"trials": "vmap"}, record=False)
    for trial in range(2):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            layers_of(lines)[trial].measures,
            layers_of(by_map)[trial].measures,
        )


def test_a_trial_is_recorded_as_train_records_it(by_map):
    settings = {"steps": 6, "batch_size": 8, "evaluate_every": 2}
    key, one = jax.random.key(1), data_mesh(1)
    call = {"key": key, "progress": False, "mesh": one, "record": Recorder(), **settings}
    alone = train(PROBLEM.init, LINE, optax.sgd(0.1), **call).recording
    recording = layers_of(by_map)[1]
    assert recording.steps == alone.steps == (2, 4, 6)
    jax.tree.map(np.testing.assert_array_equal, recording.measures, alone.measures)


def test_a_trial_that_diverges_is_recorded_until_then(by_map):
    by_trial = layers_of(by_map)
    assert [recording.steps for recording in by_trial.values()] == [(2, 4, 6)] * 2 + [(2,)] * 2
    assert by_trial[2].first_nonfinite is not None


def test_an_interrupted_sweep_goes_on_to_the_same_layers_unless_they_are_altered(
    tmp_path, monkeypatch, by_map
):
    monkeypatch.setattr("fbp.checkpoints.SAVING", float("inf"))
    with killed_in_the_third_segment(monkeypatch):
        recorded(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "altered")
    path = tmp_path / "altered" / "records.jsonl"
    path.write_text(path.read_text().replace('"cosine"', '"cosinE"', 1))
    with pytest.raises(InputError, match="altered before byte"):
        recorded(tmp_path / "altered", resume=True)
    assert recorded(tmp_path / "run", resume=True) == by_map


@pytest.mark.slow
def test_parts_are_merged_to_the_same_layers(tmp_path, by_map):
    for part in ("0/2", "1/2"):
        run(PROBLEM, out=tmp_path, train=TRAIN, sweep=SWEEP, part=part)
    merge(tmp_path, problem=PROBLEM)
    assert (tmp_path / "records.jsonl").read_text().splitlines() == by_map


@pytest.mark.slow
def test_settings_that_halving_drops_are_recorded_no_further(tmp_path):
    search = {"kind": "halving", "eta": 2}
    sweep = {"learning_rate": [0.1, 0.2], "seeds": 1, "search": search}
    by_trial = layers_of(recorded(tmp_path / "run", sweep))
    assert sorted(recording.steps for recording in by_trial.values()) == [(2, 4), (2, 4, 6)]


@pytest.mark.parametrize("damage", [{"w": 1.0}, {"cosine": {"w": "1"}}, []])
def test_damaged_layers_are_told_by_the_report(tmp_path, by_map, damage):
    rows = [json.loads(line) for line in by_map]
    next(row for row in rows if row["kind"] == LAYERS)[LAYERS] = damage
    (tmp_path / "config.toml").touch()
    (tmp_path / "environment.json").write_text("{}")
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=r"line \d+ is no record"):
        read_run(tmp_path)


def test_other_steps_have_the_same_equations():
    """The scan of all steps but the last, and of all steps without a recorder."""
    init_key, _, step_key = keys_of(0)

    def bodies(record):
        tables = {"name": "line", "train": TRAIN | {"record": record}, "sweep": SWEEP}
        (study,) = studies_of(problem_config(tables, "line"), PROBLEM)
        engine, numbers = study.engine, study.trials[0].hyperparameters
        state = engine.init(init_key, step_key, numbers)
        examples = PROBLEM.parts["train"]
        advance = lambda state, order: engine.advance_recorded(state, numbers, examples, order)
        program = jax.make_jaxpr(advance)(state, jnp.zeros((4, 8), jnp.int32))
        scans = [eqn.params for eqn in program.eqns if eqn.primitive.name == "scan"]
        return [(scan["length"], str(scan["jaxpr"])) for scan in scans]

    recorded, plain = bodies(True), bodies(False)
    assert [length for length, _ in recorded] == [3, 1]
    assert [length for length, _ in plain] == [4]
    assert recorded[0][1] == plain[0][1] != recorded[1][1]


@pytest.mark.slow
def test_a_loss_that_carries_a_state_and_returns_more_is_recorded(tmp_path):
    def loss(params, carried, batch, key):
        hidden = jax.nn.relu(batch[0] @ params["w"])
        aux = {"size": jnp.sum(params["w"] ** 2)}
        return jnp.mean((jnp.sum(hidden, 1) - batch[1]) ** 2), (carried + 1, aux)

    init = lambda key: ({"w": jax.random.normal(key, (3, 4))}, jnp.zeros(()))
    data = dict.fromkeys(("train", "validation"), (ROWS.x, ROWS.y))
    problem = Problem(data, init, loss, optimizer=optax.sgd, has_state=True, has_aux=True)
    lines = recorded(tmp_path / "run", {"learning_rate": [0.1], "seeds": 1}, problem=problem)
    measures = layers_of(lines)[0].measures
    assert [*measures] == ["cosine", "dead_units", "gradient_norm", "update_ratio", "zero_share"]
    assert "size" in json.loads(others(lines)[1])


def test_trials_that_differ_in_being_recorded_are_refused():
    tables = {"name": "demo", "train": {}, "sweep": {"axes": {"train": {"record": [True, False]}}}}
    with pytest.raises(InputError, match="cannot be compared"):
        config_of({**tables, "data": {}, "network": {}, "optimizer": {}}, "demo")
