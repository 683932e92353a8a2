"""A sweep in parts has the records of one process; a part that is missing or twice is named."""

import json
import shutil
from types import SimpleNamespace

import jax
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from fbp.config import MLP, Config, Data, LogGrid, Optimizer, Sweep, Train
from fbp.errors import InputError
from fbp.sweep import division, merge, ray_tasks, run
from fbp.sweep.division import group_sizes
from fbp.sweep.part import part_of
from tests.support.interruption import killed_in_the_third_segment
from tests.support.line import line_problem

TRAIN = {"steps": 15, "batch_size": 8, "evaluate_every": 5}
SWEEP = {"learning_rate": [0.01, 0.1, 0.5, 1e4], "seeds": 2, "trials": "map"}
TIMES = ("seconds", "compile_seconds", "trial_steps_per_second", "parts")


PROBLEM = line_problem()


def train_part(out, part, problem=PROBLEM, sweep=SWEEP, **options):
    return run(problem, out=out, train=TRAIN, sweep=sweep, part=part, **options)


def train_parts(out, indices, parts=3, **options):
    for index in indices:
        train_part(out, f"{index}/{parts}", **options)
    return out


def outcome(directory):
    summary = json.loads((directory / "summary.json").read_text())
    lasting = {key: value for key, value in summary.items() if key not in TIMES}
    return (directory / "records.jsonl").read_bytes(), lasting


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    run(PROBLEM, out=directory, train=TRAIN, sweep=SWEEP)
    return directory


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    return train_parts(tmp_path_factory.mktemp("divided") / "run", range(3))


@pytest.fixture
def copy(divided, tmp_path):
    """The run with its three parts, not merged, to do with as one likes."""
    return shutil.copytree(divided, tmp_path / "copy")


def test_merged_parts_are_the_undivided_sweep_byte_for_byte(copy, whole):
    summary = merge(copy, problem=PROBLEM)
    assert outcome(copy) == outcome(whole)
    assert summary["parts"] == 3
    assert not list(copy.glob("parts/*/checkpoints"))
    assert (copy / "config.toml").read_text() == (whole / "config.toml").read_text()


def test_second_merge_is_refused(copy):
    merge(copy, problem=PROBLEM)
    before = outcome(copy)
    with pytest.raises(InputError, match="is merged already"):
        merge(copy, problem=PROBLEM)
    assert outcome(copy) == before


def test_missing_parts_are_named_with_the_command_that_trains_one(copy):
    shutil.rmtree(copy / "parts" / "0001")
    with pytest.raises(
        InputError, match=r"1 of 3 parts are missing, 1 \(never begun\).*--part 1/3"
    ):
        merge(copy, problem=PROBLEM)
    assert not (copy / "records.jsonl").exists()


def test_killed_part_is_named_with_its_last_step_and_goes_on_bit_for_bit(
    tmp_path, whole, monkeypatch
):
    monkeypatch.setattr("fbp.checkpoints.SAVING", float("inf"))
    out = train_parts(tmp_path / "run", [0, 2])
    with killed_in_the_third_segment(monkeypatch):
        train_part(out, "1/3")
    with pytest.raises(InputError, match=r"1 \(lost after step 15\)"):
        merge(out, problem=PROBLEM)
    with pytest.raises(InputError, match="was begun already: --resume goes on"):
        train_part(out, "1/3")
    train_part(out, "1/3", resume=True)
    merge(out, problem=PROBLEM)
    assert outcome(out) == outcome(whole)


def test_complete_part_is_not_trained_again(copy):
    with pytest.raises(InputError, match="part 2 of 3 is complete already"):
        train_part(copy, "2/3")
    facts = train_part(copy, "2/3", resume=True)
    assert facts == json.loads((copy / "parts" / "0002" / "part.json").read_text())
    with pytest.raises(InputError, match="what the other parts wrote"):
        train_part(copy, "2/3", overwrite=True)


def test_parts_of_machines_that_share_no_directory_are_copied_together(tmp_path, divided, whole):
    here, elsewhere = (shutil.copytree(divided, tmp_path / name) for name in ("here", "elsewhere"))
    shutil.rmtree(here / "parts" / "0002")
    for index in range(2):
        shutil.rmtree(elsewhere / "parts" / f"{index:04}")
    with pytest.raises(InputError, match="by --out"):
        merge([here, elsewhere], problem=PROBLEM)
    merge([here, elsewhere], out=tmp_path / "merged", problem=PROBLEM)
    assert outcome(tmp_path / "merged") == outcome(whole)


def test_same_part_twice_is_refused(copy, divided, tmp_path):
    with pytest.raises(InputError, match=r"part 0 is there twice, .*parts/0000 and .*parts/0000"):
        merge([copy, divided], out=tmp_path / "merged", problem=PROBLEM)


def test_parts_of_two_plans_are_refused(copy, tmp_path):
    shutil.rmtree(copy / "parts" / "0002")
    other = train_parts(tmp_path / "other", [2], sweep=SWEEP | {"trials": "loop"})
    with pytest.raises(InputError, match="are of two plans"):
        merge([copy, other], out=tmp_path / "merged", problem=PROBLEM)
    shutil.copytree(other / "parts" / "0002", copy / "parts" / "0002")
    with pytest.raises(InputError, match="this part is of another plan"):
        merge(copy, problem=PROBLEM)


def test_altered_records_of_a_part_are_refused(copy):
    path = copy / "parts" / "0001" / "records.jsonl"
    path.write_text(path.read_text().replace("0", "1", 1))
    with pytest.raises(InputError, match="is not as it was written"):
        merge(copy, problem=PROBLEM)


@pytest.mark.parametrize(
    ("part", "options", "complaint"),
    [
        pytest.param("0/4", {}, "into 3 parts, not 4", id="another number of parts"),
        pytest.param("0/3", {"problem": line_problem(2.0)}, "data.train.* differ", id="other data"),
        pytest.param("0/3", {"sweep": SWEEP | {"seeds": 3}}, "config differ", id="other config"),
    ],
)
def test_part_of_another_plan_is_refused(copy, part, options, complaint):
    with pytest.raises(InputError, match=complaint):
        train_part(copy, part, resume=True, **options)


def test_part_on_another_kind_of_device_is_refused(copy):
    path = copy / "plan.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "H100"'))
    with pytest.raises(InputError, match=r"device \(H100 there and cpu here\)"):
        train_part(copy, "0/3", resume=True)


def test_what_one_part_has_compiled_the_next_one_reads(tmp_path):
    out, before = tmp_path / "run", jax.config.values["jax_compilation_cache_dir"]
    programs = lambda: {path.name for path in (out / "compiled").glob("*-cache")}
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        train_part(out, "0/2")
        compiled = programs()
        train_part(out, "1/2")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert any("train_padded" in name for name in compiled)
    assert programs() == compiled


def test_part_that_comes_second_says_that_it_waits_for_the_plan(tmp_path):
    first, said = FileLock(tmp_path / "plan.lock"), []
    first.acquire()

    def say(text):
        said.append(text)
        first.release()

    with division._alone(tmp_path / "plan.lock", say):
        assert said == ["another part makes the plan: waiting for it"]


@pytest.mark.parametrize(
    ("present", "cpus", "gpus", "tasks"),
    [
        ({"CPU": 16.0}, 4, 0, 4),
        ({"CPU": 16.0, "GPU": 2.0}, 1, 0.25, 8),
        ({"CPU": 2.0, "GPU": 2.0}, 1, 0.25, 2),
        ({"CPU": 1.0}, 4, 0, 1),
    ],
)
def test_ray_has_as_many_tasks_as_it_runs_at_a_time(present, cpus, gpus, tasks):
    cluster = SimpleNamespace(cluster_resources=lambda: present)
    assert ray_tasks._slots(cluster, cpus, gpus) == tasks


def test_sweep_whose_trials_depend_on_each_other_is_not_divided(tmp_path):
    halving = SWEEP | {"search": {"kind": "halving"}}
    with pytest.raises(InputError, match="compares all settings after each rung"):
        train_part(tmp_path / "run", "0/2", sweep=halving)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("0/1", {}, (0, 1)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "16"}, (3, 16)),
        ("auto/16", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "1"}, (3, 16)),
        ("auto/16", {"JOB_COMPLETION_INDEX": "15"}, (15, 16)),
    ],
)
def test_index_is_as_it_is_written_or_as_the_scheduler_says(text, environment, expected):
    assert part_of(text, environment) == expected


@pytest.mark.parametrize(
    ("text", "environment", "complaint"),
    [
        ("3", {}, "give i/n"),
        ("-1/3", {}, "give i/n"),
        ("a/b", {}, "give i/n"),
        ("3/3", {}, "3 of 3: parts count from 0"),
        ("0/0", {}, "parts count from 0"),
        ("auto", {}, "neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "says which of how many"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2"}, "auto/16 names all"),
    ],
)
def test_index_that_names_no_part_is_refused(text, environment, complaint):
    with pytest.raises(InputError, match=complaint):
        part_of(text, environment)


def config_of(settings, seeds, trials="auto", **options):
    rates = (0.1,) if settings == 1 else LogGrid(0.1, 1.0, settings)
    sweep = Sweep(rates, seeds, trials=trials, **options)
    return Config("demo", Data("digits"), MLP((4,)), Optimizer("sgd"), Train(9, 8, 3), sweep)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(1, 60))
def test_groups_are_all_trials_and_enough_for_every_part(settings, seeds, studies, parts):
    trials, config = settings * seeds, config_of(settings, seeds)
    if parts > studies * trials:
        with pytest.raises(InputError, match="parts are more than"):
            group_sizes(config, studies, trials, parts)
        return
    sizes = group_sizes(config, studies, trials, parts)
    assert sum(sizes) == trials
    assert min(sizes) > 0
    assert parts <= len(sizes) * studies < parts + studies
    if len(sizes) <= settings:
        assert all(size % seeds == 0 for size in sizes)
        assert max(sizes) - min(sizes) <= seeds


def test_groups_that_share_batches_have_all_seeds():
    assert group_sizes(config_of(4, 3, "seed"), 1, 12, 4) == [3, 3, 3, 3]
    with pytest.raises(InputError, match="5 parts are more than 4 groups"):
        group_sizes(config_of(4, 3, "seed"), 1, 12, 5)
