"""Optax: its losses, second-order quantities, and gradients of unrolled optimisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.support.agreement import assert_same, total
from tests.support.clients import assert_as_jax, assert_grad, client

optax = client("optax")

RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32) for _ in range(2))
P = jax.nn.softmax(B)
LABELS = jnp.array([0, 3, 1, 1])
SIGNS = jnp.sign(B)

LOSSES = {
    "squared_error": lambda a: optax.squared_error(a, B),
    "l2": lambda a: optax.l2_loss(a, B),
    "huber": lambda a: optax.huber_loss(a, B, delta=0.5),
    "log_cosh": lambda a: optax.log_cosh(a, B),
    "cosine": lambda a: optax.cosine_distance(a, B),
    "softmax": lambda a: optax.softmax_cross_entropy(a, P),
    "softmax_integer": lambda a: optax.softmax_cross_entropy_with_integer_labels(a, LABELS),
    "sigmoid": lambda a: optax.sigmoid_binary_cross_entropy(a, P),
    "focal": lambda a: optax.sigmoid_focal_loss(a, P, alpha=0.3),
    "poly": lambda a: optax.losses.poly_loss_cross_entropy(a, P),
    "kl": lambda a: optax.kl_divergence(jax.nn.log_softmax(a), P),
    "hinge": lambda a: optax.hinge_loss(a, SIGNS),
    "perceptron": lambda a: optax.losses.perceptron_loss(a, SIGNS),
    "sparsemax": lambda a: optax.losses.multiclass_sparsemax_loss(a, LABELS),
    "dice": lambda a: optax.losses.dice_loss(a[None], P[None]),
    "triplet": lambda a: optax.losses.triplet_margin_loss(a, B, P),
    "ntxent": lambda a: optax.ntxent(a, LABELS),
    "ranking": lambda a: optax.losses.ranking_softmax_loss(a, P),
    "ctc": lambda a: optax.ctc_loss(
        a[None], jnp.zeros((1, 4)), jnp.array([[1, 2]]), jnp.zeros((1, 2))
    ),
    "projection_simplex": lambda a: optax.projections.projection_simplex(a[0]),
    "projection_l1": lambda a: optax.projections.projection_l1_ball(a[0], 0.7),
    "projection_l2": lambda a: optax.projections.projection_l2_ball(a, 0.7),
    "safe_norm": lambda a: optax.safe_norm(a, 1e-3),
    "global_norm": lambda a: optax.tree.norm({"a": a, "b": a * a}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name):
    assert_grad(lambda a: total(LOSSES[name](a)), A, tolerance=16)


def test_fixed_point_of_sinkhorn_like_iterations():
    """optax's perturbed argmax has a gradient by custom_jvp."""
    hard = lambda x: jax.nn.one_hot(jnp.argmax(x, -1), 5)
    soft = optax.perturbations.make_perturbed_fun(hard, num_samples=20, sigma=0.5)
    assert_grad(lambda a: total(soft(jax.random.key(0), a)), A, tolerance=16)


# Second order: JAX's forward mode over fbp's reverse mode, as optax composes them.


def loss(params, x, y):
    return jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2)


PARAMS = {"w": A.T[:5, :3] * 0.5, "v": B[:3, 0]}


@pytest.mark.filterwarnings("ignore:The function hvp:DeprecationWarning")
def test_hessian_vector_product():
    """optax's `hvp` calls jax.grad on what it is given; a gradient by fbp within is the same."""
    import fbp

    flat, unflatten = jax.flatten_util.ravel_pytree(PARAMS)
    of_flat = lambda flat, x, y: loss(unflatten(flat), x, y)
    want = optax.second_order.hvp(of_flat, jnp.cos(flat), flat, A, LABELS * 1.0)
    gradient = lambda flat: fbp.grad(of_flat)(flat, A, LABELS * 1.0)
    assert_same(jax.jvp(gradient, (flat,), (jnp.cos(flat),))[1], want, 32)
    assert_same(fbp.vjp(gradient, flat)[1](jnp.cos(flat))[0], want, 32)


def test_fisher_and_hessian_diagonals():
    def fisher(value_and_grad, params):
        flat, unflatten = jax.flatten_util.ravel_pytree(params)
        one = lambda flat, x, y: loss(unflatten(flat), x[None], y[None])
        per_example = jax.vmap(value_and_grad(one), in_axes=(None, 0, 0))(flat, A, LABELS * 1.0)[1]
        slope = lambda flat: value_and_grad(one)(flat, A[0], B[0, 0])[1]
        rows = jax.vmap(lambda e: jax.jvp(slope, (flat,), (e,))[1])(jnp.eye(flat.size))
        return jnp.mean(per_example**2, 0), jnp.diag(rows)

    assert_as_jax(fisher, PARAMS, tolerance=32)


# Gradients through training: the derivative of the last loss in the learning rate and the start.

SCHEDULES = {
    "cosine": lambda rate: optax.cosine_decay_schedule(rate, 6),
    "exponential": lambda rate: optax.exponential_decay(rate, 2, 0.7),
    "warmup": lambda rate: optax.join_schedules(
        [optax.linear_schedule(0.0, rate, 2), optax.polynomial_schedule(rate, 0.01, 2, 4)], [2]
    ),
}

OPTIMIZERS = {
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "adam": lambda rate: optax.adam(rate, eps_root=1e-8),
    "adamw": lambda rate: optax.adamw(rate, weight_decay=0.01, eps_root=1e-8),
    "rmsprop": lambda rate: optax.rmsprop(rate, eps=1e-4),
    "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(rate)),
    "adaptive_clipping": lambda rate: optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(rate)),
    "lookahead_lion": lambda rate: optax.lion(rate),
    "adabelief": lambda rate: optax.adabelief(rate, eps_root=1e-8),
    "lamb": lambda rate: optax.lamb(rate, eps_root=1e-8),
    "radam": lambda rate: optax.radam(rate, eps_root=1e-8),
    "noisy": lambda rate: optax.noisy_sgd(rate, eta=0.01, key=0),
    "accumulated": lambda rate: optax.MultiSteps(
        optax.sgd(rate), every_k_schedule=2
    ).gradient_transformation(),
}


def last_loss(value_and_grad, make, hyper):
    """The loss after six steps of an optimiser, all within one scan."""

    def run(rate, start):
        optimizer = make(rate)

        def step(state, _):
            params, opt_state = state
            value, grads = value_and_grad(loss)(params, A, LABELS * 1.0)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value

        (params, _), values = lax.scan(step, (start, optimizer.init(start)), length=6)
        return loss(params, A, LABELS * 1.0) + 0.1 * jnp.sum(values)

    return value_and_grad(run, argnums=(0, 1))(hyper, PARAMS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradient_through_an_optimizer(name):
    """Gradients of gradients, through the steps; the order of sums differs."""
    run = lambda value_and_grad, rate: last_loss(value_and_grad, OPTIMIZERS[name], rate)
    assert_as_jax(run, 0.05, tolerance=256)


@pytest.mark.parametrize("name", SCHEDULES)
def test_gradient_through_a_schedule(name):
    make = lambda rate: optax.sgd(SCHEDULES[name](rate))
    run = lambda value_and_grad, rate: last_loss(value_and_grad, make, rate)
    assert_as_jax(run, 0.05, tolerance=256)
