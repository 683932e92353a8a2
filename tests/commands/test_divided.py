"""`fbp sweep --part`, `--parts` and `fbp merge`: what they print, and what they refuse."""

from contextlib import nullcontext

import pytest

from fbp import cli
from tests.support.demo_config import TEXT


@pytest.fixture
def demo(tmp_path):
    path = tmp_path / "demo.toml"
    path.write_text(TEXT)
    return str(path)


def test_parts_are_trained_one_at_a_time_or_all_and_merged(demo, tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    assert cli.main(["sweep", demo, *out, "--part", "1/2"]) == 0
    told = capsys.readouterr().out
    assert "part 1 of 2: 20 trial-steps at " in told
    assert f"when all are complete: fbp merge {tmp_path / 'run'}" in told
    assert cli.main(["merge", str(tmp_path / "run")]) == 2
    assert "1 of 2 parts are missing, 0 (never begun)" in capsys.readouterr().err
    assert cli.main(["sweep", demo, *out, "--parts", "2"]) == 2
    assert "holds parts already: --resume goes on with them" in capsys.readouterr().err
    assert cli.main(["sweep", demo, *out, "--parts", "2", "--resume"]) == 0
    assert "learning rate" in capsys.readouterr().out
    assert cli.main(["runs", str(tmp_path)]) == 0
    assert "run  complete" in capsys.readouterr().out
    assert cli.main(["sweep", demo, *out, "--parts", "2", "--resume"]) == 0
    assert "this run is complete, nothing was done" in capsys.readouterr().out
    assert cli.main(["merge", str(tmp_path / "run")]) == 2
    assert "is merged already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--part", "0/2", "--parts", "2"], "--parts and --ray train all: give one"),
        (["--part", "0/2", "--ray"], "--parts and --ray train all: give one"),
        (["--part", "2/2"], "give 0/2 to 1/2"),
        (["--part", "0/2", "--distributed"], "leave out --distributed"),
        (["--part", "0/2", "--overwrite"], "--overwrite"),
        (["--parts", "0"], "--parts is 0: give 1 or more"),
        (["--parts", "2", "--task-gpus", "1"], "--task-cpus and --task-gpus are of --ray"),
        (["--ray", "--task-gpus", "-1"], "--task-gpus not negative"),
    ],
    ids=range(8),
)
def test_what_does_not_fit_together_is_refused(
    demo, tmp_path, capsys, monkeypatch, argv, complaint
):
    monkeypatch.setattr("fbp.commands.sweep.joined", lambda processes: nullcontext())
    assert cli.main(["sweep", demo, "--out", str(tmp_path / "run"), *argv]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_merge_takes_the_directory_of_a_divided_run(tmp_path, capsys):
    assert cli.main(["merge"]) == 2
    assert "takes the directory of a divided run" in capsys.readouterr().err
    assert cli.main(["merge", str(tmp_path)]) == 2
    assert "no plan of a divided sweep" in capsys.readouterr().err
