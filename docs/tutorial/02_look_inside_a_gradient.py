"""Look inside a gradient: the program, the tape, the rules.

    python docs/tutorial/02_look_inside_a_gradient.py

In 01 we carried an error back by hand. This script shows where fbp does the same: what it
stages, which rule it applies, which cotangent passes each step, and what it keeps in between.
Then it changes a rule.
"""

import inspect
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive

import fbp

# ## 1. A function becomes a program
#
# fbp asks JAX for the function's program: a list of equations. Each applies one primitive.


def f(w):
    """Use w twice."""
    return lax.sin(3.0 * w) + w


program = jax.make_jaxpr(f)(0.5)
print("the program of sin(3 w) + w")
print(program)
assert [eqn.primitive for eqn in program.eqns] == [lax.mul_p, lax.sin_p, lax.add_p]

# ## 2. Each primitive has a rule
#
# A rule says how the cotangent of an output becomes the cotangents of the operands. It is a
# small pure function in a table. docs/rules.md lists them all.

rule = fbp.RULES[lax.sin_p]
print(f"\nthe rule of sin, of kind '{rule.kind}':")
print("  ", inspect.getsource(rule.functions[0]).strip())
assert rule.kind == "derivative"

# Of kind 'derivative' means: the operand's cotangent is the output's cotangent times this.
# The rule may read the operand x and the output y.
#
# ## 3. Watch the tape
#
# The forward pass puts each equation's pullback on a tape. The backward pass walks the tape from
# its end. The table of rules is a value like any other, so we can make another table whose rules
# also print what passes through them, and hand it to one call.


def watched(rule):
    """Return the same rule, with a pullback that prints the cotangents."""

    def apply(call, ins):
        outs, pullback = rule.apply(call, ins)

        def printing(cts):
            in_cts = pullback(cts)
            shown = ["-" if ct is None else f"{ct:.4f}" for ct in in_cts]
            print(f"   {rule.primitive!s:4} {cts[0]:.4f} -> {', '.join(shown)}")
            return in_cts

        return outs, printing

    return replace(rule, apply=apply)


print("\nthe tape, from its end: cotangent of the output -> cotangents of the operands")
rules = fbp.Rules([watched(rule) for rule in fbp.RULES.values()])
gradient = fbp.grad(f, rules=rules)(0.5)

# "-" is a cotangent that nobody wants: 3.0 is no parameter, so it is never made. w got two
# cotangents, one along each way, and their sum is the gradient: 3 cos(1.5) + 1.

by_hand = 3 * jnp.cos(1.5) + 1
print(f"   w     {gradient:.4f}")
assert jnp.allclose(gradient, by_hand)

# The loops that did this are `forward` and `backward` in fbp/autodiff/backprop.py.
#
# ## 4. What is kept between the passes
#
# Rules read values of the forward pass, so these must be kept: the residuals. `fbp.vjp` gives
# the output and the pullback, which says what it keeps, from which line, and how large it is.


def layer(w, b, x):
    """One dense layer."""
    z = x @ w + b
    return lax.logistic(z)


w, b, x = jnp.ones((64, 32)), jnp.zeros((1, 32)), jnp.ones((128, 64))
y, pullback = fbp.vjp(layer, w, b, x)

print("\na dense layer keeps")
for residual in pullback.residuals:
    print(f"   {residual.bytes:6} bytes  {residual.origin:8} {residual.source}")
w_ct, b_ct, x_ct = pullback(jnp.ones_like(y))
assert (w_ct.shape, b_ct.shape, x_ct.shape) == (w.shape, b.shape, x.shape)

# Three arrays. w and x, since each is a factor in the other's cotangent. And the logistic
# function's derivative, y (1 - y), which needs no cotangent and so was computed on the way
# forward. Neither z nor b: no rule reads them. The pullback is a pytree of these arrays, so it
# passes through jit and vmap.

assert sorted(r.bytes for r in pullback.residuals) == sorted([w.nbytes, x.nbytes, y.nbytes])
assert "02_look_inside" in max(pullback.residuals, key=lambda r: r.source).source

# ## 5. A primitive without a rule
#
# Here is a new primitive, as someone with a special kernel would make one.

cube_p = Primitive("cube")
cube_p.def_impl(lambda x: x * x * x)
cube_p.def_abstract_eval(lambda x: x)


def cube(x):
    """x^3, by our own primitive."""
    return cube_p.bind(x)


try:
    fbp.grad(cube)(2.0)
except fbp.MissingRule as error:
    print(f"\nMissingRule: {error}")
else:
    raise AssertionError("a primitive without a rule must raise")

# The message says what to do. State the rule, and pass a table that has it.

cube_rule = fbp.rule.derivative(cube_p, lambda x, _: 3.0 * x * x)
gradient = fbp.grad(cube, rules=fbp.RULES | cube_rule)(2.0)
print(f"with a rule, d(x^3)/dx at 2 is {gradient}")
assert gradient == 12.0

# ## 6. Another rule, for one call
#
# A network with rounded weights cannot be trained: the derivative of rounding is zero. The
# straight-through estimator (Bengio et al., 2013) passes the cotangent through as if there were
# no rounding. That is a change of one line in the table, and it leaks into no other call.

straight_through = fbp.rule.derivative(lax.round_p, lambda *_: 1.0)


def quantised(w):
    """Return the squared distance of the rounded weight to 3."""
    return (lax.round(w) - 3.0) ** 2


w = 0.4
for _ in range(10):
    w = w - 0.2 * fbp.grad(quantised, rules=fbp.RULES | straight_through)(w)
print(f"\nplain gradient: {fbp.grad(quantised)(0.4)}; trained straight through, w = {w:.2f}")
assert fbp.grad(quantised)(0.4) == 0.0
assert lax.round(w) == 3.0

# ## Where to read on
#
# fbp/autodiff/rule.py says how rules are stated, fbp/autodiff/rules/ states them. Whether a rule
# is right is the subject of 03_check_a_gradient.py.
