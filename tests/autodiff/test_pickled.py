"""Tables of rules and gradients travel to other processes, and keep what was changed."""

import copy
import pickle
import pydoc
import subprocess
import sys

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive

import fbp
from fbp.train import Measurement, TrainResult

SCRIPT = """
import sys, cloudpickle, jax.numpy as jnp, fbp
from jax import lax
scale = 3.0
def f(x):
    return jnp.sum(jnp.round(jnp.sin(x)) * scale + jnp.tanh(x))
through = fbp.rule.derivative(lax.round_p, lambda x, y: scale)
changed = fbp.RULES | through | fbp.rule_from_jvp(
    lax.tanh_p, lambda x, dx, **_: (lax.tanh(*x), dx[0] * 5)
)
with open(sys.argv[1], "wb") as file:
    cloudpickle.dump([fbp.grad(f), fbp.grad(f, rules=changed), fbp.value_and_grad(f)], file)
"""


def test_gradients_travel_between_processes(tmp_path):
    path, x = tmp_path / "gradients", jnp.linspace(-1.0, 1.0, 5)
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True)
    plain, changed, both = cloudpickle.loads(path.read_bytes())
    np.testing.assert_allclose(plain(x), 1 - jnp.tanh(x) ** 2, rtol=1e-6)
    np.testing.assert_allclose(changed(x), 9 * jnp.cos(x) + 5, rtol=1e-6)
    np.testing.assert_allclose(both(x)[1], plain(x))


@pytest.mark.parametrize(
    "make", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy]
)
def test_the_standard_table_and_its_rules_are_themselves(make):
    assert make(fbp.RULES) is fbp.RULES
    assert all(make(rule) is rule for rule in fbp.RULES.values())


def test_a_changed_table_keeps_its_changes_and_the_rest_by_name():
    rule = fbp.rule.derivative(lax.sin_p, lambda x, y: 2.0)
    got = cloudpickle.loads(cloudpickle.dumps(fbp.RULES | rule))
    assert got.keys() == fbp.RULES.keys()
    assert [p for p in got if got[p] is not fbp.RULES[p]] == [lax.sin_p]
    assert float(fbp.grad(jnp.sin, rules=got)(1.0)) == 2.0
    assert len(cloudpickle.dumps(fbp.RULES | rule)) < 10_000


def test_a_table_of_some_rules_gets_no_others():
    some = fbp.Rules(fbp.RULES[lax.cos_p], fbp.rule.constant(lax.exp_p))
    got = cloudpickle.loads(cloudpickle.dumps(some))
    assert got.keys() == some.keys()
    assert got[lax.cos_p] is fbp.RULES[lax.cos_p]
    assert fbp.grad(jnp.exp, rules=got)(1.0) == 0.0


def test_a_primitive_without_a_standard_rule_travels_by_its_module():
    schur_p = lax.linalg.schur_p
    got = cloudpickle.loads(cloudpickle.dumps(fbp.RULES | fbp.rule.constant(schur_p)))
    assert schur_p not in fbp.RULES
    assert got[schur_p].kind == "constant"


def test_a_primitive_that_no_module_names_is_refused():
    secret = Primitive("secret")
    with pytest.raises(pickle.PicklingError, match=r"'secret'.*top level of a module"):
        cloudpickle.dumps(fbp.RULES | fbp.rule.constant(secret))


def test_a_pickle_of_another_version_says_which_primitive_it_lacks():
    from fbp.autodiff.pickled import standard_rule

    with pytest.raises(LookupError, match="'frobnicate'"):
        standard_rule("frobnicate")


def test_representations_are_short():
    _, pullback = fbp.vjp(lambda x: jnp.sin(x) @ x, jnp.ones(3))
    for value in (fbp.RULES, fbp.RULES[lax.sin_p], pullback):
        assert len(repr(value)) < 100
    assert repr(fbp.RULES) == f"<rules of {len(fbp.RULES)} primitives>"
    assert "3 residuals, 36 bytes" in repr(pullback)
    assert len(pydoc.render_doc(fbp.grad)) < 3000
    measured = Measurement(3, 0.5, 0.25, 1.0)
    trained = TrainResult(state=pullback, history=(measured,), stopped="steps")
    assert repr(trained) == f"<TrainResult: steps, 1 measurements, the last {measured}>"
    assert jax.tree.leaves(pullback) == pullback.values
