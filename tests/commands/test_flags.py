"""Every flag means the same in every command that has it."""

import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import fbp
from fbp.cli import COMMANDS, main
from fbp.commands import flags
from fbp.commands.experiments import ListExperiments, RunExperiments, TabulateExperiments
from tests.support import synthetic_run

PARSED = {
    **{name: command for name, command in COMMANDS.items() if name not in ("experiments", "run")},
    "experiments list": ListExperiments,
    "experiments table": TabulateExperiments,
    "experiments run": RunExperiments,
}
SHARED = {
    "json": (flags.Json, set(PARSED) - {"completion"}),
    "quiet": (flags.Quiet, {"sweep", "show", "fit", "predict", "experiments run"}),
    "seed": (flags.Seed, {"show", "fit", "check"}),
    "overwrite": (
        flags.Overwrite,
        {"sweep", "show", "fit", "predict", "configs", "experiments run"},
    ),
    "open": (flags.Open, {"show", "fit", "report", "check"}),
}
WITH_OUT = {"merge", "sweep", "show", "fit", "predict", "report", "configs", "experiments run"}


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("flag", SHARED)
def test_a_shared_flag_is_of_one_type_with_one_text_wherever_it_is(flag):
    kind, commands = SHARED[flag]
    types = {
        name: [field.type for field in fields(command) if field.name == flag]
        for name, command in PARSED.items()
    }
    assert {name for name, present in types.items() if present} == commands
    assert all(present == [kind] for present in types.values() if present)


@pytest.mark.parametrize("command", PARSED)
def test_out_is_a_directory_wherever_it_is(command, capsys):
    text = help_of(capsys, *command.split())
    assert ("--out DIR" in text) == (command in WITH_OUT)
    assert "--out FILE" not in text


@pytest.mark.parametrize("command", ["", *COMMANDS, "experiments run"])
@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_every_command_tells_the_version(command, flag, capsys):
    assert main([*command.split(), flag]) == 0
    assert capsys.readouterr().out == f"fbp {fbp.__version__}\n"


def test_help_lists_every_command_in_a_line_and_the_exit_statuses(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", text, re.MULTILINE) for name in COMMANDS)
    assert "130 after Ctrl-C" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["swep"], "sweep"),
        (["experiments", "lst"], "list"),
        (["experiments", "run", "quadratik"], "quadratic"),
        (["sweep", "digits_mpl"], "digits_mlp"),
        (["plan", "digits_mpl"], "digits_mlp"),
        (["check", "digits_mpl.toml"], None),
        (["configs", "lst"], "list"),
        (["configs", "show", "digits_mpl"], "digits_mlp"),
        (["show", "xro"], "xor"),
        (["completion", "zhs"], "zsh"),
        (["check", "jax.numpy:coshh", "--args", "float32[]"], "cosh"),
        (["sweep", "digits_mlp", "--set", "optimizer.name='adm'"], "adam"),
        (["sweep", "digits_mlp", "--set", "data.name='digit'"], "digits"),
        (["sweep", "digits_mlp", "--set", "train.stepz=3"], "steps"),
    ],
)
def test_what_is_misspelled_is_told_with_what_was_meant(
    words, meant, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where no run lies already
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert meant is None or f"did you mean {meant}?" in err


def test_a_misspelled_column_is_told_with_what_was_meant(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("length,species\n1,a\n2,b\n")
    assert main(["fit", str(tmp_path / "t.csv"), "--target", "specie"]) == 2
    assert "did you mean species?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell, capsys):
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "experiments" in out
    assert "--overwrite" in out


def test_a_shell_takes_the_completion(capsys):
    main(["completion", "bash"])
    script = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["configs"], {"digits_mlp"}),
        (["configs", "show", "digits_mlp"], {"digits_mlp"}),
        (["experiments", "list"], {"quadratic"}),
    ],
)
def test_json_is_all_that_is_printed(words, keys, capsys):
    assert main([*words, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= keys


def test_runs_report_and_comparison_as_json(tmp_path, capsys):
    runs = [str(synthetic_run.write(tmp_path / name)) for name in ("one", "two")]
    assert main(["runs", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [Path(run["path"]).name for run in listed] == ["one", "two"]
    assert main(["report", "--compare", *runs, "--out", str(tmp_path / "new"), "--json"]) == 0
    page = tmp_path / "new" / "comparison.html"
    assert json.loads(capsys.readouterr().out) == {"report": str(page)}
    assert page.is_file()


def test_a_page_is_opened(tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page = tmp_path / "check.html"
    words = ["check", "jax.numpy:tanh", "--args", "float32[]", "--seed", "3", "--html", str(page)]
    assert main([*words, "--open"]) == 0
    assert "--seed 3" in page.read_text(encoding="utf-8")
    assert opened == [page.resolve().as_uri()]
    assert main(["check", "jax.numpy:tanh", "--args", "float32[]", "--open"]) == 2
    assert "give --html FILE too" in capsys.readouterr().err


def test_copies_are_replaced_only_when_asked(tmp_path, capsys):
    words = ["configs", "copy", "digits_mlp", "--out", str(tmp_path)]
    (tmp_path / "digits_mlp.toml").write_text("mine")
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--json"]) == 0
    copied = json.loads(capsys.readouterr().out)["digits_mlp"]
    assert "learning_rate" in Path(copied).read_text()


def test_results_of_experiments_are_replaced_only_when_asked(tmp_path, capsys):
    result = tmp_path / "quadratic" / "result.json"
    result.parent.mkdir()
    result.write_text("mine")
    assert main(["experiments", "run", "quadratic", "--quick", "--out", str(tmp_path)]) == 2
    assert "or --overwrite" in capsys.readouterr().err
    assert result.read_text() == "mine"


def on_a_terminal(*words, **environment):
    """Return what a command prints on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "fbp", *words]
    done = subprocess.run(command, stdout=theirs, stderr=theirs, env=os.environ | environment)
    os.close(theirs)
    assert done.returncode == 0
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:  # the end of a terminal, on Linux
        pass
    os.close(ours)
    return text.decode()


@pytest.mark.parametrize(
    ("setting", "colored"), [({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]
)
def test_a_terminal_is_colored_unless_no_color_is_set(setting, colored):
    text = on_a_terminal("runs", "--help", TERM="xterm", **setting)
    assert "usage: fbp runs" in re.sub(r"\033\[[0-9;]*m", "", text)
    assert ("\033[" in text) == colored


def test_a_reader_that_has_seen_enough_ends_a_command():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "fbp", "completion", "bash"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
