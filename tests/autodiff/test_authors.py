"""Rules that authors of other libraries state for JAX, of primitives that this file defines."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.core import primitives as p
from jax.interpreters import ad, mlir

import fbp
from fbp.autodiff.stated_for_jax import stated_for_jax
from tests.support.agreement import assert_same

X = jnp.array([0.5, -1.0, 2.0])


def primitive(name, fun):
    """A new primitive of one operand that computes `fun`."""
    new = Primitive(name)
    new.def_impl(fun)
    new.def_abstract_eval(lambda x, **_: ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(new, mlir.lower_fun(fun, multiple_results=False))
    return new


def _cube_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return CUBE.bind(x), 3 * x * x * dx


CUBE = primitive("cube_of_a_library", lambda x: x * x * x)
ad.primitive_jvps[CUBE] = _cube_jvp

SQUARE = primitive("square_by_defjvp", lambda x: x * x)
ad.defjvp(SQUARE, lambda dx, x: 2 * x * dx)

DOUBLE = primitive("double_by_deflinear2", lambda x: 2 * x)
ad.deflinear2(DOUBLE, lambda ct, x: [2 * ct])

NEGATIVE = primitive("negative_by_helpers_alone", lambda x: -x)
ad.deflinear2(NEGATIVE, lax.neg)


class Pushforward:
    """A rule that is an object."""

    def __call__(self, primals, tangents):
        return SINE.bind(*primals), jnp.cos(*primals) * tangents[0]


SINE = primitive("sine_by_an_object", jnp.sin)
ad.primitive_jvps[SINE] = Pushforward()


def _recursive():
    def pushforward(primals, tangents):
        return EXP.bind(*primals), jnp.exp(*primals) * tangents[0] if pushforward else None

    return pushforward


EXP = primitive("exp_by_a_closure_over_itself", jnp.exp)
ad.primitive_jvps[EXP] = _recursive()

TRIPLE = primitive("triple_by_its_transpose_alone", lambda x: 3 * x)
ad.primitive_transposes[TRIPLE] = lambda ct, x: [3 * ct]


@jax.custom_jvp
def tripled(x):
    return 3 * x


tripled.defjvp(lambda primals, tangents: (tripled(*primals), TRIPLE.bind(*tangents)))

PROGRAMS = {
    "a pushforward": CUBE.bind,
    "defjvp": SQUARE.bind,
    "deflinear2": DOUBLE.bind,
    "an object": SINE.bind,
    "a closure": EXP.bind,
    "a transpose alone": tripled,
    "all, jitted": jax.jit(lambda x: EXP.bind(SQUARE.bind(tripled(SINE.bind(DOUBLE.bind(x)))))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_rule_of_an_author_differentiates_as_jax_does(name):
    loss = lambda x: jnp.sum(PROGRAMS[name](x))
    assert_same(fbp.grad(loss, rules=fbp.rules_of_authors())(X), jax.grad(loss)(X))


def test_a_rule_made_of_helpers_of_jax_alone_is_its_authors():
    assert NEGATIVE in fbp.rules_of_authors()


def test_no_rule_of_a_module_of_jax_is_taken():
    table = fbp.rules_of_authors()
    assert all(table[primitive] is rule for primitive, rule in fbp.RULES.items())
    of_jax = {x for x in vars(p).values() if isinstance(x, Primitive)}
    assert len(of_jax) > 100
    assert not of_jax & set(stated_for_jax())


def test_a_transpose_that_a_library_adds_to_a_primitive_of_jax_changes_nothing(monkeypatch):
    """Lineax does that to stop_gradient."""
    monkeypatch.setitem(ad.primitive_transposes, lax.stop_gradient_p, lambda ct, x: (ct,))
    assert lax.stop_gradient_p not in stated_for_jax()


def test_a_forward_rule_that_a_library_gives_to_a_primitive_of_jax_is_taken(monkeypatch):
    def doubled(primals, tangents, **_):
        return jnp.sin(*primals), 2 * tangents[0]

    monkeypatch.setitem(ad.primitive_jvps, lax.sin_p, doubled)
    assert float(fbp.grad(jnp.sin, rules=fbp.rules_of_authors())(0.0)) == 2.0


def test_a_transpose_alone_is_no_derivative():
    """jax.grad raises here too."""
    with pytest.raises(NotImplementedError):
        jax.grad(TRIPLE.bind)(1.0)
    with pytest.raises(fbp.MissingRule, match=r"states for JAX how to transpose.*no derivative"):
        fbp.grad(TRIPLE.bind, rules=fbp.rules_of_authors())(1.0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_the_line_that_a_missing_rule_names_can_be_pasted(wrap):
    loss = lambda x: jnp.sum(wrap(lambda x: CUBE.bind(x))(x))
    with pytest.raises(fbp.MissingRule, match=r"cube_of_a_library.*test_authors.py") as missing:
        fbp.grad(loss)(X)
    line = re.search(r"fbp\.grad\(.*\)$", str(missing.value)).group()
    gradient = eval(line, {"fbp": fbp, "f": loss})
    assert_same(gradient(X), 3 * X * X)


def test_a_primitive_without_any_rule_is_not_said_to_have_one():
    nobodys = primitive("stated_by_nobody", lambda x: x)
    with pytest.raises(fbp.MissingRule, match="State one and pass it"):
        fbp.grad(nobodys.bind, rules=fbp.rules_of_authors())(1.0)


def test_a_rule_stated_after_the_import_is_found():
    late = primitive("stated_late", lambda x: x * x)
    assert late not in fbp.rules_of_authors()
    ad.defjvp(late, functools.partial(lambda two, dx, x: two * x * dx, 2))
    assert float(fbp.grad(late.bind, rules=fbp.rules_of_authors())(3.0)) == 6.0
