"""`fbp check package.module:function`: what it prints, writes and exits with."""

import json
import re
import sys

import pytest

from fbp.cli import main
from fbp.verify import Finding, Kind, LeafVerdict, Report
from fbp.verify.terminal import colored

MODULE = """
import jax
import jax.numpy as jnp

def right(x, y):
    return jnp.sum(jnp.sin(x) * y)

@jax.custom_jvp
def square(x):
    return x * x

square.defjvp(lambda xs, ts: (xs[0] ** 2, 3 * xs[0] * ts[0]))

def wrong(x):
    return jnp.sum(square(x))

def raises(x):
    raise ValueError("it is\\nTuesday")

def make():
    return jnp.ones((3, 2)), jnp.ones((3, 2))

POINT = (jnp.arange(1.0, 3.0),)
ONE = 1.0

def leaves(x):
    raise SystemExit(0)

def prints(x):
    print("something")
    return x
"""


@pytest.fixture(autouse=True)
def _in_a_directory_with_a_module(tmp_path, monkeypatch):
    (tmp_path / "losses.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "losses", raising=False)


@pytest.mark.parametrize("args", [["losses:make"], ["float32[3,2]", "float32[3,2]"]])
def test_a_right_gradient_exits_with_0(args, capsys):
    assert main(["check", "losses:right", "--args", *args]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("the gradient of right: right\n  ok    args[0]: ")
    assert err == ""


def test_a_wrong_one_exits_with_1_as_json_and_as_a_page_too(tmp_path, capsys):
    argv = ["check", "losses:wrong", "--args", "losses:POINT", "--json", "--html", "wrong.html"]
    assert main(argv) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["findings"][0]["kind"] == "wrong custom rule"
    assert re.search(r"losses\.py:\d+:\d+ \(wrong\)", report["findings"][0]["source"])
    page = (tmp_path / "wrong.html").read_text()
    assert "WRONG" in page
    assert "data:image/png" in page


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["losses:right"], "losses:right is checked at a point: give its arguments"),
        (["losses:raises", "--args", "float32[]"], r"ValueError: it is \(.*losses.py:18\)"),
        (["losses:right", "--args", "float32[]"], "could not check losses:right: TypeError"),
        (["losses:leaves", "--args", "float32[]"], "could not check losses:leaves: SystemExit: 0"),
        (["losses:missing"], "losses:missing: there is no 'missing' in losses"),
        (["nowhere:loss"], "could not import nowhere: ModuleNotFoundError"),
        (["losses:ONE"], "losses:ONE is no function, but of type float"),
        (["losses:right", "--args", "losses:ONE"], "losses:ONE gives a value of type float"),
        (["losses:wrong", "--args", "float23[2]"], "there is no dtype float23"),
        (["losses:wrong", "--args", "int32[2]"], "random arguments are floating-point"),
        (["losses:wrong", "--args", "float32(2)"], "give one package.module:name of a tuple"),
        (["losses:wrong", "--args", "float64[2]"], "set JAX_ENABLE_X64=1"),
        (["losses.toml", "--html", "x.html"], "losses.toml is no package.module:function"),
    ],
)
def test_what_cannot_be_checked_exits_with_2_and_one_line(argv, message, capsys):
    assert main(["check", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"fbp: .*\n", err)
    assert message in err or re.search(message, err)


def test_what_the_function_prints_is_not_in_the_report(capsys):
    assert main(["check", "losses:prints", "--args", "float32[]", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["ok"]
    assert "something" in err


def test_only_a_terminal_gets_colors(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    leaf = LeafVerdict("args[0]", False, 9.0, 2.0, (), 1.0, 2.0, "jax.grad")
    report = Report("the gradient of f", (leaf,), (Finding(Kind.KINK, "There is a kink."),))

    class Stream:
        def __init__(self, terminal):
            self.isatty = lambda: terminal

    assert colored(report, Stream(False)) == str(report)
    text = colored(report, Stream(True))
    assert text.count("\033[1;31m") == 2
    assert "\033[1;33mkink\033[0m: There" in text
    assert re.sub(r"\033\[[0-9;]*m", "", text) == str(report)
    monkeypatch.setenv("NO_COLOR", "1")
    assert colored(report, Stream(True)) == str(report)


SETTINGS = """
import jax
import jax.numpy as jnp

@jax.custom_vjp
def rounded(x):
    return jnp.round(x)

rounded.defvjp(lambda x: (rounded(x), None), lambda _, ct: (ct,))

def identity(x):
    return x

def loss(x, y):
    return jnp.sum(rounded(x) * y)

def plain(x, y):
    return jnp.sum(jnp.round(x) * y)

def other(x, y):
    return jnp.sum(jnp.round(x) * y) + 1

def by_hand(x, y):
    return y, jnp.round(x)
"""


@pytest.fixture
def in_src(tmp_path):
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "more.py").write_text(SETTINGS)
    yield package
    for name in ("package", "package.more"):
        sys.modules.pop(name, None)


TWO = ["--args", "float32[3]", "float32[3]"]


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["package.more:loss", *TWO, "--argnums", "1"], 0),
        (["src/package/more.py:loss", *TWO], 1),
        (["package.more:loss", *TWO, "--declared", "rounded"], 0),
        (["package.more:loss", *TWO, "--declared", "rounded=package.more:identity"], 0),
        (
            [
                "package.more:loss",
                *TWO,
                "--declared",
                "rounded",
                "--reference",
                "package.more:other",
            ],
            1,
        ),
        (
            [
                "package.more:plain",
                *TWO,
                "--argnums",
                "0",
                "1",
                "--gradient",
                "package.more:by_hand",
            ],
            1,
        ),
    ],
)
def test_settings_of_the_check_are_words_and_the_command_is_printed(in_src, argv, status, capsys):
    assert main(["check", *argv]) == status
    out = capsys.readouterr().out
    assert f"again: fbp check {argv[0]} --args" in out


def test_ctrl_c_ends_with_130_and_the_report_so_far(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["fbp.verify.check"], "audit", interrupted)
    assert main(["check", "losses:right", "--args", "float32[3]", "float32[3]"]) == 130
    out = capsys.readouterr().out
    assert "  ok    args[0]: " in out
    assert "could not check the rest: interrupted" in out
