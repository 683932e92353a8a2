"""A check of an edited gradient: the edits are declared, and what they do is said."""

import jax
import jax.numpy as jnp
import pytest

import fbp
from fbp import at, edit, verify

PARAMS = {"first": {"w": jnp.ones((3, 3)) / 3}, "last": {"w": jnp.ones((3, 2)) / 2}}
X = jnp.arange(6.0).reshape(2, 3)


def loss(params, x):
    with jax.named_scope("first"):
        h = jnp.tanh(x @ params["first"]["w"])
    return jnp.sum((h @ params["last"]["w"]) ** 2)


def declared(report):
    return [f for f in report.findings if f.kind == "declared"]


def test_edits_are_declared_deviations_with_cosine_and_norm():
    rules = fbp.RULES | edit.cotangent("first", edit.scale(-3.0))
    report = verify.check(loss, PARAMS, X, rules=rules)
    assert report.ok
    of_edit, of_leaf = declared(report)
    assert "scale(-3.0)) changes the gradient at first" in of_edit.message
    assert "test_edited.py" in of_edit.source
    assert "cosine -1 " in of_leaf.message
    assert " 3 times" in of_leaf.message
    assert "first" in of_leaf.leaf


def test_a_selector_of_a_parameter_finds_it():
    site = at.reads("last/w")
    rules = fbp.RULES | edit.cotangent(site, edit.stop(), of="inputs")
    messages = [f.message for f in declared(verify.check(loss, PARAMS, X, rules=rules))]
    assert "the gradient is zero" in messages[-1]


def test_a_gradient_that_is_wrong_besides_is_still_found():
    broken = fbp.rule.derivative(jax.lax.tanh_p, lambda x, y: 1.0)
    rules = fbp.RULES | broken | edit.cotangent("first", edit.scale(2.0))
    report = verify.check(loss, PARAMS, X, rules=rules)
    assert not report.ok
    assert any(f.kind == "wrong rule" and f.primitive == "tanh" for f in report.findings)


def test_an_edit_without_a_site_is_refused():
    with pytest.raises(fbp.InputError, match="nearest are 'first'"):
        verify.check(loss, PARAMS, X, rules=fbp.RULES | edit.cotangent("frist", edit.stop()))
