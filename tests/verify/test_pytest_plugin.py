"""The fixture and the marker, as users' tests have them."""

import subprocess
import sys

import pytest

import fbp.verify  # noqa: F401  pytest's runs within this process cannot import numpy again

pytest_plugins = ["pytester"]

LOSS = """
import jax
import jax.numpy as jnp
import pytest

@jax.custom_vjp
def dense(x, w, b):
    return x @ w + b

dense.defvjp(
    lambda x, w, b: (dense(x, w, b), (x, w)),
    lambda kept, ct: (kept[1] @ ct, jnp.outer(kept[0], ct), 2 * ct),
)

def loss(params, x):
    return jnp.sum(jnp.tanh(dense(x, **params)))

@pytest.fixture
def params():
    return {"w": jnp.ones((3, 2)) / 8, "b": jnp.zeros(2)}

X = jnp.arange(3.0)
"""


@pytest.fixture
def run(pytester):
    """Runs pytest on tests that are written beside the loss."""

    def outcome(tests):
        pytester.makepyfile(LOSS + tests)
        return pytester.runpytest_inprocess("--strict-markers")

    return outcome


def test_the_fixture_fails_with_the_report_and_nothing_else(run):
    result = run("""
def test_right(check_gradients):
    check_gradients(jnp.sin, 0.5)

def test_wrong(check_gradients, params):
    check_gradients(loss, params, X)
""")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "the gradient of loss: WRONG",
            "*wrong custom rule: the custom_vjp rule of dense at *",
            "*operand    2, entry*",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_fbp.py*")
    result.stdout.no_fnmatch_line("*check_gradients(loss*")


def test_a_marked_test_is_the_function_and_its_arguments_may_be_anything(run):
    result = run("""
@pytest.mark.gradients
def test_wrong(params):
    return loss(params, X)

@pytest.mark.gradients("x", "y")
@pytest.mark.parametrize("function", [jnp.add, jnp.multiply])
@pytest.mark.parametrize(("x", "y"), [(2.0, 3.0)])
def test_right(function, x, y):
    return function(x, y)

class TestDeclared:
    @pytest.mark.gradients(declared=["dense"])
    def test_of_a_class(self, params):
        return loss(params, X)
""")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["the gradient of test_wrong: WRONG"])


def test_a_marker_without_an_argument_to_differentiate_fails(run):
    result = run("""
@pytest.mark.gradients
def test_of_nothing():
    return 1.0

@pytest.mark.gradients("v")
def test_of_another(params, scale=1.0):
    return scale
""")
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert "gradients of [], but the test is given []" in text
    assert "gradients of ['v'], but the test is given ['params']" in text


def test_pytest_starts_without_jax(pytester):
    """A conftest.py may have settings for JAX to read."""
    pytester.makeconftest(
        "import sys\nassert 'pytest_fbp' in sys.modules\nassert 'jax' not in sys.modules"
    )
    pytester.makepyfile("def test(): pass")
    command = [sys.executable, "-m", "pytest"]
    assert subprocess.run(command, cwd=pytester.path, capture_output=True).returncode == 0
