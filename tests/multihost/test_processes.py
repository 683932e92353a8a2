import pytest

from fbp.cli import main


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--coordinator a:1", "give --coordinator, --num-processes and --process-id together"),
        ("--num-processes 2 --process-id 0", "give --coordinator, --num-processes and"),
        ("--distributed --process-id 0", "--distributed finds the other processes by itself"),
        ("--coordinator a --num-processes 2 --process-id 0", "--coordinator is a: give HOST:PORT"),
        ("--coordinator a:b --num-processes 2 --process-id 0", "is a:b: give HOST:PORT"),
        ("--coordinator a:1 --num-processes 0 --process-id 0", "--num-processes is 0"),
        ("--coordinator a:1 --num-processes 2 --process-id 2", "a number from 0 to 1"),
        ("--coordinator a:1 --num-processes 2 --process-id -1", "--process-id is -1"),
    ],
)
def test_processes_that_cannot_be_are_refused_in_one_line(capsys, options, complaint):
    assert main(["sweep", "missing.toml", *options.split()]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1


def test_missing_cluster_is_told_in_one_line(capsys):
    assert main(["sweep", "configs/digits_mlp.toml", "--distributed"]) == 2
    told = capsys.readouterr().err
    assert "the processes do not find each other" in told
    assert told.count("\n") == 1
