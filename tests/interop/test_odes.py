"""Diffrax, Optimistix and Lineax: implicit and checkpointed adjoints of other people's loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from tests.support import clients
from tests.support.agreement import total
from tests.support.clients import client

dfx = client("diffrax")
optx = client("optimistix")
lx = client("lineax")

assert_grad = functools.partial(clients.assert_grad, rules=fbp.rules_of_authors())
Y0 = jnp.array([0.4, -0.7, 1.1])
W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32) * 0.5
SPD = W @ W.T + jnp.eye(3)


def solve(args, y0, adjoint, solver=None, controller=None, saveat=None):
    term = dfx.ODETerm(lambda t, y, w: jnp.tanh(w @ y) - y * t)
    solution = dfx.diffeqsolve(
        term,
        solver or dfx.Tsit5(),
        0.0,
        1.0,
        0.2,
        y0,
        args,
        adjoint=adjoint,
        stepsize_controller=controller or dfx.ConstantStepSize(),
        saveat=saveat or dfx.SaveAt(ts=jnp.array([0.3, 1.0])),
        max_steps=16,
    )
    return total(solution.ys)


ADJOINTS = {
    "checkpoints": lambda: dfx.RecursiveCheckpointAdjoint(checkpoints=3),
    "direct": dfx.DirectAdjoint,
    "implicit": dfx.ImplicitAdjoint,
}


@pytest.mark.parametrize("adjoint", ["checkpoints", "direct"])
def test_ode(adjoint):
    """The gradient of an ODE's solution in the field's parameters and the start."""
    loss = lambda w, y0: solve(w, y0, ADJOINTS[adjoint]())
    assert_grad(loss, W, Y0, argnums=(0, 1), tolerance=64)


def test_continuous_adjoint():
    """Backsolve: its backward pass is another ODE, written by a custom_vjp."""
    saveat = dfx.SaveAt(t1=True)
    loss = lambda w, y0: solve(w, y0, dfx.BacksolveAdjoint(), saveat=saveat)
    assert_grad(loss, W, Y0, argnums=(0, 1), tolerance=64)


def test_adaptive_steps():
    """The number of steps is known only when the loop ends."""
    controller = dfx.PIDController(rtol=1e-2, atol=1e-2)
    adjoint = dfx.RecursiveCheckpointAdjoint(checkpoints=4)
    loss = lambda w, y0: solve(w, y0, adjoint, controller=controller)
    assert_grad(loss, W, Y0, argnums=(0, 1), tolerance=64)


def test_implicit_solver():
    """A stiff solver finds a root in each step; its derivative is the implicit one."""
    loss = lambda w, y0: solve(
        w,
        y0,
        dfx.RecursiveCheckpointAdjoint(checkpoints=3),
        dfx.Kvaerno3(),
        dfx.PIDController(rtol=1e-2, atol=1e-2),
    )
    assert_grad(loss, W, Y0, argnums=(0, 1), tolerance=256)


def test_stochastic():
    """A path of Brownian motion by a virtual tree, itself a loop."""

    def loss(w):
        path = dfx.VirtualBrownianTree(0.0, 1.0, 0.05, shape=(), key=jax.random.key(0))
        terms = dfx.MultiTerm(
            dfx.ODETerm(lambda t, y, w: jnp.tanh(w @ y)),
            dfx.ControlTerm(lambda t, y, w: jnp.sin(y), path),
        )
        solution = dfx.diffeqsolve(
            terms, dfx.Euler(), 0.0, 1.0, 0.25, Y0, w, max_steps=8,
            adjoint=dfx.RecursiveCheckpointAdjoint(checkpoints=3),
        )  # fmt: skip
        return total(solution.ys)

    assert_grad(loss, W, tolerance=64)


def test_interpolation():
    ts = jnp.linspace(0.0, 1.0, 4)

    def loss(ys):
        curve = dfx.CubicInterpolation(ts, dfx.backward_hermite_coefficients(ts, ys))
        return total((curve.evaluate(0.4), curve.derivative(0.7)))

    assert_grad(loss, jnp.cos(jnp.arange(8.0)).reshape(4, 2))


ROOT_FINDERS = {
    "newton": lambda: optx.Newton(1e-5, 1e-5),
    "chord": lambda: optx.Chord(1e-5, 1e-5),
    "dogleg": lambda: optx.Dogleg(1e-5, 1e-5),
}


@pytest.mark.parametrize("name", ROOT_FINDERS)
def test_root(name):
    """A root's derivative is -(dF/dy)^-1 dF/dw, by optimistix's implicit rule."""

    def loss(w):
        field = lambda y, w: y - 0.5 * jnp.tanh(w @ y) - 1
        return total(optx.root_find(field, ROOT_FINDERS[name](), Y0, w, throw=False).value)

    assert_grad(loss, W, tolerance=64)


def test_bisection():
    def loss(w):
        solver = optx.Bisection(1e-6, 1e-6)
        options = {"lower": 0.0, "upper": 3.0}
        field = lambda y, w: jnp.exp(y) - w
        return optx.root_find(field, solver, 1.0, w, options=options, throw=False).value

    assert_grad(loss, jnp.float32(2.5), tolerance=16)


LEAST_SQUARES = {
    "gauss_newton": lambda: optx.GaussNewton(1e-5, 1e-5),
    "levenberg_marquardt": lambda: optx.LevenbergMarquardt(1e-5, 1e-5),
}


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_least_squares(name):
    def loss(w):
        residuals = lambda y, w: jnp.concatenate([w @ y - 1, y**2 * 0.1])
        solution = optx.least_squares(residuals, LEAST_SQUARES[name](), Y0, w, throw=False)
        return total(solution.value)

    assert_grad(loss, W, tolerance=1024)


def test_minimum_and_fixed_point():
    def loss(w):
        minimum = optx.minimise(
            lambda y, w: jnp.sum((SPD @ y - w) ** 2), optx.BFGS(1e-4, 1e-4), Y0, w, throw=False
        ).value
        fixed = optx.fixed_point(
            lambda y, w: 0.3 * jnp.sin(y) + w, optx.FixedPointIteration(1e-5, 1e-5), Y0, w,
            throw=False,
        ).value  # fmt: skip
        return total((minimum, fixed))

    assert_grad(loss, Y0, tolerance=1024)


def test_unrolled_iterations():
    """The loop itself is differentiated, not its fixed point: a recursively checkpointed one."""

    def loss(w):
        adjoint = optx.RecursiveCheckpointAdjoint(checkpoints=3)
        solver = optx.FixedPointIteration(1e-3, 1e-3)
        field = lambda y, w: 0.3 * jnp.sin(w @ y) + 1
        solution = optx.fixed_point(
            field, solver, Y0, w, adjoint=adjoint, max_steps=16, throw=False
        )
        return total(solution.value)

    assert_grad(loss, W, tolerance=64)


SOLVERS = {
    "lu": lambda: lx.LU(),
    "qr": lambda: lx.QR(),
    "svd": lambda: lx.SVD(),
    "cholesky": lambda: lx.Cholesky(),
    "cg": lambda: lx.CG(1e-6, 1e-6),
    "gmres": lambda: lx.GMRES(1e-6, 1e-6),
    "bicgstab": lambda: lx.BiCGStab(1e-6, 1e-6),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_linear_solve(name):
    """A linear system's derivative in its matrix and its right-hand side."""

    def loss(matrix, b):
        definite = name in ("cholesky", "cg")
        matrix = matrix @ matrix.T + jnp.eye(3)
        tags = lx.positive_semidefinite_tag if definite else ()
        operator = lx.MatrixLinearOperator(matrix, tags)
        return total(lx.linear_solve(operator, b, SOLVERS[name](), throw=False).value)

    assert_grad(loss, W, Y0, argnums=(0, 1), tolerance=256)


def test_tridiagonal_and_function_operators():
    def loss(d, b):
        tridiagonal = lx.TridiagonalLinearOperator(d + 3, d[1:], d[:-1])
        linear = lx.FunctionLinearOperator(
            lambda v: (SPD + jnp.diag(d**2)) @ v, b, lx.positive_semidefinite_tag
        )
        first = lx.linear_solve(tridiagonal, b, throw=False).value
        return total((first, lx.linear_solve(linear, b, lx.CG(1e-6, 1e-6), throw=False).value))

    assert_grad(loss, Y0, Y0 + 1, argnums=(0, 1), tolerance=256)
