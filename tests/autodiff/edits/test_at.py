"""What selectors choose, and what they say where they choose nothing."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import fbp
from fbp import at

LINE = "test_at.py:19"  # of what swish returns
PARAMS = {"first": {"w": jnp.ones((3, 3)), "b": jnp.ones(3)}, "last": {"w": jnp.ones((3, 2))}}
X = jnp.ones((4, 3))


@jax.custom_jvp
def swish(x):
    return x * jnp.tanh(x)


swish.defjvp(lambda primals, tangents: jax.jvp(lambda x: x * jnp.tanh(x), primals, tangents))


def dense(name, params, x):
    with jax.named_scope(name):
        y = x @ params["w"]
        return y + jnp.broadcast_to(params["b"], y.shape) if "b" in params else y


def model(params, x):
    def block(h, _):
        with jax.named_scope("block"):
            h = swish(dense("first", params["first"], h))
            return checkpoint_name(h, "hidden"), None

    h, _ = lax.scan(jax.checkpoint(block), x, None, length=3)
    return jnp.sum(dense("last", params["last"], h) ** 2)


SITES = fbp.sites(model, PARAMS, X)


def chosen(selector):
    return [site.name for site in SITES.choose(selector)]


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        (at.scope("block/first"), ["block/first"]),
        (at.scope("*/first"), ["block/first"]),
        (at.scope("block"), ["block"]),
        (at.scope("la?t"), ["last"]),
        (at.scope("*"), ["block", "last"]),
        (at.function("swish"), ["block/swish"]),
        (at.name("hid*"), ["block/name"]),
        (at.primitive("dot_general"), ["block/first/dot_general", "last/dot_general"]),
        (at.scope("block") & at.primitive("dot_general"), ["block/first/dot_general"]),
        (at.primitive("dot_general") & ~at.scope("block"), ["last/dot_general"]),
        (at.primitive("tanh") | at.scope("last"), ["block/tanh", "last"]),
        (at.tag("elementwise") & at.scope("*/first"), ["block/first/add"]),
        (at.reads("first/w"), ["block/first/dot_general"]),
        (at.reads("0/first/*"), ["block/first/dot_general", "block/first/add"]),
        (at.line(LINE), [LINE]),
        (
            at.where(lambda site: site.loops == 0) & at.primitive("dot_general"),
            ["last/dot_general"],
        ),
        (at.scope("block") & at.iteration(1), ["block"]),
    ],
)
def test_a_selector_chooses(selector, names):
    assert chosen(selector) == names


@pytest.mark.parametrize(
    ("selector", "hint"),
    [
        (at.scope("*/frist"), "'block/first'"),
        (at.function("swich"), "'swish'"),
        (at.name("hiden"), "'hidden'"),
        (at.primitive("dot"), "'dot_general'"),
        (at.tag("elementwize"), "'elementwise'"),
        (at.reads("first/kernel"), "'first/w'"),
        (at.scope("last") & at.primitive("tanh"), "primitive('tanh') alone matches 1 equations"),
        (at.line("nowhere.py:1"), "test_at.py:"),
    ],
)
def test_a_selector_that_matches_nothing_names_the_nearest(selector, hint):
    with pytest.raises(fbp.InputError, match="matches nothing") as error:
        SITES.choose(selector)
    assert hint in str(error.value)


def test_a_layer_that_is_applied_twice_is_two_sites():
    def twice(x):
        return dense("last", PARAMS["first"], jnp.tanh(dense("last", PARAMS["first"], x)))

    assert [s.name for s in fbp.sites(twice, X).choose("last")] == ["last", "last (2)"]


def test_scopes_reach_into_bodies_across_jit():
    def f(x):
        with jax.named_scope("outer"):
            return jax.jit(lambda x: jnp.sin(dense("last", PARAMS["first"], x)))(x)

    (site,) = fbp.sites(f, X).choose("outer/last")
    assert site.equations == 2 or site.equations == 3


def test_the_inputs_of_a_site_are_in_the_order_of_its_computation():
    (site,) = SITES.choose("last")
    assert site.ins == ("float32[4, 3]", "0/last/w: float32[3, 2]")
    assert site.outs == ("float32[4, 2]",)


def test_the_tree_has_counts_types_lines_and_parameters():
    text = repr(SITES)
    assert "scan of 3" in text
    assert "reads '0/first/w'" in text
    assert "name 'hidden'" in text
    assert "test_at.py" in text
    html = fbp.sites(lambda x: jax.named_call(jnp.tanh, name="<b>")(x), 1.0)._repr_html_()
    assert "<b>&lt;b&gt;</b>" in html


def test_the_tree_lists_the_sites_of_edits():
    rules = fbp.RULES | fbp.edit.cotangent("*/first", fbp.edit.scale(2.0))
    text = repr(fbp.sites(model, PARAMS, X, rules=rules))
    assert "1. cotangent(scope('*/first'), scale(2.0))" in text
    assert text.splitlines()[-1].strip().startswith("block/first  (")
