"""What `import fbp` brings: the names that are exported, and nothing that takes long."""

import json
import subprocess
import sys
import typing

import jax
import pytest
from jax import lax

import fbp

SCRIPT = """
import json, sys, jax, jax.numpy as jnp, fbp
before = sorted(m for m in sys.modules if m.startswith(("scipy.sparse", "optax", "fbp.train")))
fbp.grad(jnp.sin)(1.0)
first = sorted(m for m in sys.modules if m.startswith("scipy.sparse"))
names = dir(fbp)
missing = [name for name in names if not hasattr(fbp, name)]
print(json.dumps([before, first, missing, fbp.train.__name__, fbp.verify.__name__]))
"""


def test_import_is_light_and_the_packages_come_when_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [[], [], [], "fbp.train", "fbp.verify"]


@pytest.mark.parametrize("words", [["--help"], ["sweep", "--help"], ["configs", "list"]])
def test_commands_that_compute_nothing_import_no_jax(words):
    script = """
import sys, contextlib, fbp.report.comparison_page, fbp.report.run_page
from fbp.cli import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, *words], check=True, capture_output=True)


def test_what_is_listed_is_what_there_is():
    assert set(dir(fbp)) == {*fbp.__all__, "__version__"}
    assert len(set(fbp.__all__)) == len(fbp.__all__)
    assert {"nn", "train", "sweep", "data", "verify", "report", "FbpClassifier"} <= set(dir(fbp))
    for leaked in ("Any", "TYPE_CHECKING", "import_module", "errors"):
        assert leaked not in dir(fbp)
    assert callable(fbp.fit)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = fbp.nope


def test_the_type_of_a_pullback_is_stated():
    returned = [typing.get_type_hints(f)["return"] for f in typing.get_overloads(fbp.vjp)]
    assert returned[0] == tuple[typing.Any, fbp.VJP]
    assert returned[1] == tuple[typing.Any, fbp.VJP, typing.Any]


def test_no_message_has_an_empty_place():
    """Where no line of the user's made an equation, a word stands for it."""
    from fbp.autodiff.backprop import MissingRule

    (eqn,) = jax.make_jaxpr(lax.neg)(1.0).eqns
    nowhere = eqn.replace(source_info=eqn.source_info.replace(traceback=None))
    assert "used at a line of a library. State one" in str(MissingRule(nowhere, ""))
    assert lax.neg_p is nowhere.primitive
