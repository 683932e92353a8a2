"""A comparison: the best run first, how surely it wins, what differs, what is refused."""

import dataclasses
import re

import pytest

from fbp.errors import InputError
from fbp.report.comparison import config_differences, contestants, improvements
from tests.support import synthetic_run

SYNTHETIC = 'name = "{name}"\n\n[data]\nname = "digits"\n\n[optimizer]\nname = "{name}"\n'


def run(directory, name, *, gain=0.0, config=SYNTHETIC, **options):
    rows = synthetic_run.records(**options)
    for row in rows:
        if "accuracy" in row:
            row["accuracy"] += gain
    synthetic_run.write(directory / name, rows)
    (directory / name / "config.toml").write_text(config.format(name=name))
    summary = directory / name / "summary.json"
    summary.write_text(summary.read_text().replace("made <run>", name))
    return directory / name


def test_the_run_with_the_best_validation_mean_comes_first(tmp_path):
    paths = [
        run(tmp_path, name, gain=g) for name, g in (("low", 0.0), ("high", 0.1), ("mid", 0.05))
    ]
    assert [contestant.name for contestant in contestants(paths)] == ["high", "mid", "low"]


def test_only_the_trials_of_the_best_setting_compete(tmp_path):
    paths = [run(tmp_path, "a"), run(tmp_path, "b", seeds=5)]
    actual = {c.name: c.winners for c in contestants(paths)}
    assert {name: len(winners) for name, winners in actual.items()} == {"a": 3, "b": 5}
    assert all(trial.learning_rate == 0.1 for trial in (*actual["a"], *actual["b"]))


def test_a_run_that_diverged_everywhere_comes_last_and_has_no_winner(tmp_path):
    paths = [run(tmp_path, "lost", rates=[1.0, 2.0]), run(tmp_path, "won")]
    won, lost = contestants(paths)
    assert (won.name, lost.name, lost.winners) == ("won", "lost", ())


def test_improvements_are_one_half_on_the_diagonal_and_sum_to_one_across_it(tmp_path):
    paths = [run(tmp_path, "a"), run(tmp_path, "b", gain=0.001), run(tmp_path, "c", gain=0.5)]
    chances = [[p for p, _, _ in row] for row in improvements(contestants(paths))]
    for i in range(3):
        assert chances[i][i] == 0.5
        assert [chances[i][j] + chances[j][i] for j in range(3)] == pytest.approx([1.0] * 3)
    assert chances[0][1:] == [1.0, 1.0]


def test_only_the_keys_that_differ_are_listed_and_the_name_is_none(tmp_path):
    longer = SYNTHETIC + "\n[train]\nsteps = 30\n"
    compared = contestants([run(tmp_path, "adam", gain=0.1), run(tmp_path, "sgd", config=longer)])
    assert config_differences(compared) == {
        "optimizer.name": ["adam", "sgd"],
        "train.steps": [None, 30],
    }


def test_runs_of_the_same_name_are_told_apart_by_their_directories(tmp_path):
    paths = [synthetic_run.write(tmp_path / name) for name in ("one", "two")]
    assert sorted(contestant.name for contestant in contestants(paths)) == ["one", "two"]


def test_directories_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    paths = [tmp_path / parent / "run" for parent in ("x", "y")]
    for path in paths:
        path.parent.mkdir()
        synthetic_run.write(path)
    assert {c.name for c in contestants(paths)} == set(map(str, paths))


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_runs_are_refused(tmp_path, count):
    with pytest.raises(InputError, match="give two directories or more"):
        contestants([synthetic_run.write(tmp_path)][:count])


def test_a_run_beside_itself_is_refused(tmp_path):
    path = synthetic_run.write(tmp_path / "run")
    with pytest.raises(InputError, match="given twice"):
        contestants([path, path / ".." / "run"])


def test_another_task_metric_or_data_set_is_refused(tmp_path):
    plain = synthetic_run.write(tmp_path / "plain")
    regression = synthetic_run.write(
        tmp_path / "r2", synthetic_run.records(score="r2"), task="regression", metric="r2"
    )
    by_loss = synthetic_run.write(tmp_path / "loss", metric="loss")
    cancer = run(tmp_path, "cancer", config=SYNTHETIC.replace("digits", "breast_cancer"))
    digits = run(tmp_path, "digits")
    for pair, key in (
        ((plain, regression), "task differs (classification in"),
        ((plain, by_loss), "metric differs (accuracy in"),
        ((digits, cancer), "data.name differs (digits in"),
    ):
        with pytest.raises(InputError, match=re.escape(key)):
            contestants(pair)


def test_contestants_are_values(tmp_path):
    (first, _) = contestants([synthetic_run.write(tmp_path / name) for name in ("one", "two")])
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "other"
