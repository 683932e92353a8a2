"""Implicit layers and adjoints of differential equations: right to their solver's tolerance."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import linear_call

from benchmarks.written_rules.row import Case, custom, normal, row

ROOT = "https://docs.jax.dev/en/latest/_autosummary/jax.lax.custom_root.html"
LINEAR = "https://docs.jax.dev/en/latest/_autosummary/jax.lax.custom_linear_solve.html"
LINEAR_CALL = "https://docs.jax.dev/en/latest/jax.custom_derivatives.html"
JFB = "https://arxiv.org/abs/2103.12803"
OPTNET = "https://github.com/cvxpy/cvxpylayers/issues/245"
ANODE = "https://arxiv.org/abs/1902.10298"
DIRECTION = "https://github.com/dynamiqs/dynamiqs/issues/51"
T0 = "https://github.com/stan-dev/math/issues/1833"
SIGN = "https://github.com/SciML/SciMLSensitivity.jl/issues/543"


def solved(f, z):
    """Find the fixed point of f."""

    def more(state):
        z, before, n = state
        return (jnp.max(abs(z - before)) > 1e-6) & (n < 200)

    return lax.while_loop(more, lambda s: (f(s[0]), s[0], s[2] + 1), (f(z), z, 0))[0]


@row("equilibrium", "one step of the solver in place of the inverse", JFB, operand=0)
def one_step_gradient(wrong):
    def equilibrium(w, x):
        return solved(lambda z: jnp.tanh(w @ z + x), jnp.zeros_like(x))

    def bwd(kept, g):
        w, _, z = kept
        slope = 1 - z**2
        adjoint = g if wrong else solved(lambda u: g + w.T @ (slope * u), g)
        d = slope * adjoint
        return jnp.outer(d, z), d

    layer = jax.custom_vjp(equilibrium)

    def fwd(w, x):
        z = equilibrium(w, x)
        return z, (w, x, z)

    layer.defvjp(fwd, bwd)
    w = 0.2 * normal(0, 4, 4)
    return Case(lambda w, x: jnp.sum(layer(w, x) ** 2), (w, normal(1, 4)), {layer: 1e-4})


@row("root", "forgets to divide by the derivative", OPTNET)
def implicit_function_theorem_without_its_inverse(wrong):
    def root(a):
        return lax.fori_loop(0, 30, lambda _, z: z - (z**3 + z - a) / (3 * z**2 + 1), a)

    def bwd(kept, g):
        z = root(kept[0])
        return (g / (1.0 if wrong else 3 * z**2 + 1),)

    f = custom(root, bwd)
    return Case(lambda a: jnp.sum(f(a) ** 2), (normal(0, 5),))


def integrated(f, y, t, t1, n=40):
    """y(t1) by the method of Runge and Kutta."""
    h = (t1 - t) / n

    def step(i, y):
        s = t + i * h
        a = f(s, y)
        b = f(s + h / 2, y + h / 2 * a)
        c = f(s + h / 2, y + h / 2 * b)
        return y + h / 6 * (a + 2 * b + 2 * c + f(s + h, y + h * c))

    return lax.fori_loop(0, n, step, y)


def adjoint_case(fault, wrong):
    """Make an equation with its continuous adjoint."""

    def right_hand_side(w, t, y):
        return jnp.tanh(w @ y + jnp.sin(3 * t))

    def flow(w, y, t):
        return integrated(lambda s, y: right_hand_side(w, s, y), y, t, 1.0)

    def bwd(kept, g):
        w, y, t, end = kept

        def back(s, state):
            y, a, _ = state
            when = t + 1.0 - s if fault == "direction" and wrong else s
            dy, pull = jax.vjp(lambda y, w: right_hand_side(w, when, y), y, w)
            da, dw = pull(a)
            return dy, (da if fault == "sign" and wrong else -da), -dw

        def flat(s, z):
            y, a, dw = z[:3], z[3:6], z[6:].reshape(3, 3)
            return jnp.concatenate([x.ravel() for x in back(s, (y, a, dw))])

        z = integrated(flat, jnp.concatenate([end, g, jnp.zeros(9)]), 1.0, t)
        start, a = y, z[3:6]
        dt = -jnp.sum(a * right_hand_side(w, t, start))
        return z[6:].reshape(3, 3), a, 0.0 * dt if fault == "t0" and wrong else dt

    ode = jax.custom_vjp(flow)

    def fwd(w, y, t):
        end = flow(w, y, t)
        return end, (w, y, t, end)

    ode.defvjp(fwd, bwd)
    args = (0.7 * normal(0, 3, 3), normal(1, 3), jnp.float32(0.0))
    weights = normal(2, 3)
    return Case(lambda *xs: jnp.sum(weights * ode(*xs[0])), (args,), {ode: 1e-3})


@row("flow", "the adjoint's sign is wrong", SIGN)
def adjoint_has_the_wrong_sign(wrong):
    return adjoint_case("sign", wrong)


@row("flow", "time runs in the wrong direction in the adjoint", DIRECTION)
def adjoint_runs_the_wrong_way(wrong):
    return adjoint_case("direction", wrong)


@row("flow", "the first time has no gradient", T0, operand=2)
def first_time_has_no_gradient(wrong):
    return adjoint_case("t0", wrong)


@row("euler", "solves back from the end, where the flow was too stiff to go", ANODE)
def solved_backward_through_a_stiff_flow(wrong):
    def rate(y):
        return -8 * y + jnp.sin(3 * y)

    def euler(y):
        return lax.fori_loop(0, 12, lambda _, y: y + rate(y) / 12, y)

    def bwd(kept, g):
        (y,) = kept

        def states(y):
            return lax.scan(lambda y, _: (y + rate(y) / 12, y), y, length=12)

        end, path = states(y)

        def step(carry, y):
            z, a = carry
            z = z - rate(z) / 12
            _, pull = jax.vjp(rate, z if wrong else y)
            return (z, a + pull(a)[0] / 12), None

        (_, a), _ = lax.scan(step, (end, g), path, reverse=True)
        return (a,)

    f = custom(euler, bwd)
    return Case(lambda y: jnp.sum(f(y) * normal(1, 4)), (normal(0, 4),))


@row("solve", "the linear solver of the derivative is off by a factor", ROOT, operand=None)
def root_with_a_wrong_tangent(wrong):
    def root(a):
        def solve(f, x):
            slope = jax.lax.stop_gradient(a)
            return jax.lax.fori_loop(0, 60, lambda _, x: x - f(x) / (3 * x * x + slope + 1), x)

        def tangent(g, y):
            return y / g(jnp.ones_like(y)) / (2.0 if wrong else 1.0)

        start = jnp.full_like(a, 0.5)
        return jax.lax.custom_root(lambda x: x**3 + a * x - 1, start, solve, tangent)

    return Case(lambda a: jnp.sum(root(a) ** 2), (jnp.array([1.2, 1.7, 2.1]),))


@row("custom_linear_solve", "the transposed system is solved untransposed", LINEAR, operand=None)
def linear_solve_without_the_transpose(wrong):
    a = normal(0, 3, 3) + 3 * jnp.eye(3)

    def solve(_, b):
        return jnp.linalg.solve(a, b)

    def transpose_solve(_, b):
        return jnp.linalg.solve(a if wrong else a.T, b)

    def solution(b):
        return jax.lax.custom_linear_solve(lambda x: a @ x, b, solve, transpose_solve)

    return Case(lambda b: jnp.sum(solution(b) ** 2), (normal(1, 3),))


@row("cosine", "one step of the solver, in a batch of loops that end one by one", JFB)
def batch_of_solvers(wrong):
    def cosine(a):
        def step(state):
            x, n = state
            return jnp.cos(a * x), n + 1

        def goes_on(state):
            x, n = state
            return (abs(jnp.cos(a * x) - x) > 1e-7) & (n < 200)

        return lax.while_loop(goes_on, step, (jnp.float32(0.5), 0))[0]

    def fwd(a):
        x = cosine(a)
        return x, (a, x)

    def bwd(kept, g):
        a, x = kept
        s = jnp.sin(a * x)
        return (-g * x * s / (1.0 if wrong else 1 + a * s),)

    f = custom(cosine, bwd, fwd)
    args = (jnp.array([0.3, 0.5, 0.7]),)
    return Case(lambda a: jnp.sum(jax.vmap(f)(a) ** 2), args, {f: 1e-3})


@row("linear_call", "the transpose is twice too large", LINEAR_CALL, operand=None)
def transpose_of_a_linear_call(wrong):
    def blurred(x):
        def blur(kernel, x):
            return jnp.convolve(x, kernel, mode="same")

        def transpose(kernel, ct):
            return jnp.convolve(ct, kernel[::-1], mode="same") * (2.0 if wrong else 1.0)

        return linear_call(blur, transpose, normal(1, 3), x)

    return Case(lambda x: jnp.sum(blurred(x) ** 2), (normal(0, 6),))
