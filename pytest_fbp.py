"""The pytest plugin: the fixture `check_gradients` and the marker `gradients`.

The fixture is `fbp.verify.check` that fails the test with its report:

    def test_loss(check_gradients):
        check_gradients(loss, params, x)

A test with the marker is itself the function to check: what it returns is the loss. Its arguments
are fixtures or parameters, as in any test. The first one is differentiated, or those that the
marker names; the others may be anything. The marker takes the keywords `declared` and `rules` of
`check`.

    @pytest.mark.gradients
    def test_loss(params, x):
        return loss(params, x)

    @pytest.mark.gradients("scale", "shift", declared=["straight_through"])
    @pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
    def test_layer(scale, shift, activation):
        return jnp.sum(activation(scale * x + shift))

`pytest -m gradients` runs the tests with the marker only.

It lies outside of the package `fbp`, and imports that when a gradient is checked: pytest loads
its plugins before any conftest.py, which may have settings for JAX to read when it is imported.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

MARKER = (
    "gradients(*names, declared=(), rules): check the gradient of the test function, with respect "
    "to the arguments of these names, or the first"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture(scope="session")
def check_gradients() -> Callable[..., None]:
    """Fails the test, with the report, unless a gradient is right; called as `fbp.verify.check`."""
    return _check


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Check the gradient of a test function that has the marker, in place of calling it."""
    marker = pyfuncitem.get_closest_marker("gradients")
    if marker is None:
        return None
    given = {
        name: pyfuncitem.funcargs[name]
        for name in inspect.signature(pyfuncitem.obj).parameters
        if name in pyfuncitem.funcargs
    }
    chosen = list(marker.args) or list(given)[:1]
    if not chosen or not given.keys() >= set(chosen):
        pytest.fail(f"gradients of {chosen}, but the test is given {list(given)}", pytrace=False)

    def function(*args: Any) -> Any:
        return pyfuncitem.obj(**given | dict(zip(chosen, args, strict=True)))

    function.__name__ = pyfuncitem.name
    args = [given[name] for name in chosen]
    _check(function, *args, argnums=range(len(args)), **marker.kwargs)
    return True


def _check(function: Callable, *args: Any, **settings: Any) -> None:
    from fbp.verify import check

    report = check(function, *args, **settings)
    if not report.ok:
        pytest.fail(str(report), pytrace=False)
