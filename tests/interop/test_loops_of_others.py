"""Loops of data-dependent length in other people's code, which have no reverse mode in JAX.

The derivative is that of forward mode, whose columns make a gradient one by one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fbp
from tests.support.agreement import assert_same, total
from tests.support.clients import client

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tfp's and jaxopt's own

A = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
SPD = A.T @ A + jnp.eye(3)
B = jnp.array([0.3, -1.1, 0.8])


def assert_forward_mode(fun, x, tolerance=64, rules=fbp.RULES):
    """fbp's gradient is what JAX's forward mode gives, column by column; JAX's reverse raises."""
    with pytest.raises((ValueError, TypeError, NotImplementedError)):
        jax.jit(jax.grad(fun))(x)
    want = jax.jit(jax.jacfwd(fun))(x)
    assert_same(jax.jit(fbp.grad(fun, rules=rules))(x), want, tolerance)


def test_gram_schmidt():
    tfp = client("tensorflow_probability.substrates.jax")
    assert_forward_mode(lambda a: total(tfp.math.gram_schmidt(a)), A)


def test_bracketing_root_search():
    """Chandrupatla's method narrows a bracket until it is short."""
    tfp = client("tensorflow_probability.substrates.jax")

    def loss(w):
        find = tfp.math.find_root_chandrupatla
        return find(lambda y: jnp.exp(y) - w, 0.0, 3.0).estimated_root

    assert_forward_mode(loss, jnp.float32(2.5))


def test_bounded_adaptive_ode_of_jax():
    """An ODE by jax.experimental, whose steps adapt: its own rule is the continuous adjoint."""
    from jax.experimental.ode import odeint

    def loss(w):
        return total(odeint(lambda y, t, w: jnp.tanh(w @ y), B, jnp.linspace(0.0, 1.0, 3), w))

    got, want = jax.jit(fbp.grad(loss))(SPD), jax.jit(jax.grad(loss))(SPD)
    assert_same(got, want, tolerance=256)


def test_adaptive_ode_by_diffrax_forward_loop():
    """An adaptive solver whose loop is lax.while_loop, by its adjoint for forward mode."""
    dfx = client("diffrax")

    def loss(w):
        term = dfx.ODETerm(lambda t, y, w: jnp.tanh(w @ y))
        solution = dfx.diffeqsolve(
            term, dfx.Bosh3(), 0.0, 1.0, 0.1, B, w,
            stepsize_controller=dfx.PIDController(rtol=1e-2, atol=1e-3),
            adjoint=dfx.ForwardMode(),
        )  # fmt: skip
        return total(solution.ys)

    assert_forward_mode(loss, SPD, rules=fbp.rules_of_authors())


def test_jaxopt_loop():
    """Gradient descent with `unroll=False` and no implicit differentiation is a while loop."""
    jaxopt = client("jaxopt")

    def loss(w):
        objective = lambda y, w: jnp.sum((SPD @ y - w) ** 2) + jnp.sum(jnp.cosh(y))
        solver = jaxopt.GradientDescent(
            objective, maxiter=20, stepsize=0.02, implicit_diff=False, unroll=False, jit=True
        )
        return total(solver.run(B, w).params)

    assert_forward_mode(loss, B)


def test_jaxopt_implicit_derivative():
    """The implicit function theorem, as a custom_vjp of jaxopt's with conjugate gradients in it."""
    jaxopt = client("jaxopt")

    def loss(w):
        objective = lambda y, w: jnp.sum((SPD @ y - w) ** 2) + jnp.sum(jnp.cosh(y))
        return total(jaxopt.LBFGS(objective, maxiter=20, tol=1e-4).run(B, w).params)

    got, want = jax.jit(fbp.grad(loss))(B), jax.jit(jax.grad(loss))(B)
    assert_same(got, want, tolerance=1024)


def test_optax_line_search():
    """Backtracking: the loop chooses a step size, which is not differentiated."""
    optax = client("optax")

    def loss(w):
        objective = lambda y: jnp.sum((SPD @ y - w) ** 2)
        solver = optax.chain(
            optax.scale(-1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=6)
        )
        y, state = B, solver.init(B)
        for _ in range(2):
            value, slope = objective(y), 2 * SPD.T @ (SPD @ y - w)
            updates, state = solver.update(
                slope, state, y, value=value, grad=slope, value_fn=objective
            )
            y = optax.apply_updates(y, updates)
        return total(y)

    got, want = jax.jit(fbp.grad(loss))(B), jax.jit(jax.grad(loss))(B)
    assert_same(got, want, tolerance=64)


def test_equinox_loop_of_lax_kind():
    eqxi = client("equinox.internal")

    def loss(x):
        y, _ = eqxi.while_loop(
            lambda s: jnp.sum(s[0] ** 2) < 50, lambda s: (s[0] * 1.5 + x, s[1] + 1), (x, 0),
            kind="lax",
        )  # fmt: skip
        return total(y)

    assert_forward_mode(loss, B, rules=fbp.rules_of_authors())


def test_loop_with_a_dynamic_number_of_steps():
    """Haiku's `fori_loop` over a traced bound."""
    hk = client("haiku")

    def forward(x):
        layer = hk.Linear(3, w_init=hk.initializers.Constant(0.3))
        layer(x)
        return hk.fori_loop(0, jnp.sum(x > 0) + 2, lambda _, x: jnp.tanh(layer(x)), x)

    model = hk.without_apply_rng(hk.transform(forward))
    params = model.init(jax.random.key(0), B)
    assert_forward_mode(lambda x: total(model.apply(params, x)), B)


def test_rigid_body_solver():
    """MuJoCo's constraint solver iterates until it converges."""
    mujoco, mjx = client("mujoco"), client("mujoco.mjx")
    model = mjx.put_model(
        mujoco.MjModel.from_xml_string(
            """
            <mujoco>
              <option timestep="0.01" iterations="4" ls_iterations="4" solver="Newton"/>
              <worldbody>
                <geom type="plane" size="1 1 1"/>
                <body pos="0 0 0.09">
                  <freejoint/>
                  <geom type="sphere" size="0.1" mass="1"/>
                </body>
              </worldbody>
            </mujoco>
            """
        )
    )
    data = mjx.make_data(model)

    def after_contact(velocity):
        after = mjx.step(model, data.replace(qvel=velocity))
        return total((after.qvel, after.qpos))

    velocity = jnp.array([0.2, 0.1, -0.3, 0.4, -0.2, 0.3])
    assert_forward_mode(after_contact, velocity, tolerance=256)
