"""`fbp run`: a program that is not touched runs as by python, with fbp's gradients."""

import subprocess
import sys

import pytest

from fbp.cli import main

PROGRAM = """
import os, sys, threading
os.environ["JAX_ENABLE_X64"] = "1"
import jax, jax.numpy as jnp
from helper import slope

print(__name__, os.path.basename(__file__), sys.argv[1:], sys.path[0] == os.path.dirname(__file__))
print(jnp.zeros(1).dtype, slope(0.5))
thread = threading.Thread(target=lambda: print(jax.value_and_grad(jnp.sin)(0.0)))
thread.start()
thread.join()
if "--loop" in sys.argv:  # for which JAX has no gradient
    print(jax.grad(lambda x: jax.lax.while_loop(lambda x: x > 1, lambda x: x / 2, x))(8.0))
if "--status" in sys.argv:
    sys.exit(7)
if "--say" in sys.argv:
    sys.exit("a message")
if "--fail" in sys.argv:
    {}["missing"]
"""
HELPER = """
import jax
import jax.numpy as jnp
from jax import grad

slope = jax.jit(grad(jnp.sin))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("programs")
    (path / "program.py").write_text(PROGRAM)
    (path / "helper.py").write_text(HELPER)
    return path


def ran(folder, *words):
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("words", [["--status", "--help"], ["--say"], ["--fail"]])
def test_a_program_runs_as_by_python(folder, words):
    plain = ran(folder, "program.py", *words)
    by_fbp = ran(folder, "-m", "fbp", "run", "program.py", *words)
    assert by_fbp.stdout == plain.stdout
    assert by_fbp.returncode == plain.returncode != 0
    *rest, said = by_fbp.stderr.strip().split("\n")
    if "--say" in words:  # Python prints the message of a SystemExit last of all
        (said,), rest = rest, [said]
    assert rest == plain.stderr.strip().split("\n")[: len(rest)]
    assert said.startswith("fbp run: fbp made 2 gradients (grad 1, value_and_grad 1;")


def test_a_module_is_found_in_the_folder_and_has_gradients_that_jax_lacks(folder):
    done = ran(folder, "-m", "fbp", "run", "-m", "program", "--loop")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("__main__ program.py ['--loop'] True\nfloat64 ")
    assert done.stdout.endswith("0.125\n")
    assert "fbp made 3 gradients" in done.stderr


@pytest.mark.parametrize(
    "words", [[], ["no_such.py"], ["-m"], ["-m", "no.such.module"], ["--rules", "x.py"]]
)
def test_no_program_is_one_line(words, capsys):
    assert main(["run", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("fbp: ")
    assert err.count("\n") == 1
    assert "fbp run SCRIPT [ARG ...]" in err


def test_help_says_what_is_done(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "untouched" in capsys.readouterr().out
