"""Libraries for training: they differentiate the loss that they are given."""

# The types of libraries of others, which need not be installed, are loose.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from benchmarks.clients.client import Program, client, clients_of
from benchmarks.program import normal, weight

X, Y = normal(0, 16, 8), normal(1, 16, 4)
PARAMS = {"w": weight(2, 8, 16), "v": weight(3, 16, 4)}


def loss(params: Any, x: jax.Array = X, y: jax.Array = Y) -> jax.Array:
    """Return the squared error of a network with one hidden layer."""
    return jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2)


@client("optax")
def optax_step() -> Program:
    """Five steps of Adam within one scan."""
    import optax

    optimizer = optax.adam(1e-2)

    def step(state, _):
        params, opt_state = state
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), length=5)

    return run, (PARAMS,)


@client("optax")
def optax_hvp() -> Program:
    """The product of the Hessian and a vector."""
    import optax

    flat, unravel = ravel_pytree(PARAMS)
    of_flat = lambda flat, x, y: loss(unravel(flat), x, y)
    return lambda flat: optax.second_order.hvp(of_flat, jnp.cos(flat), flat, X, Y), (flat,)


@client("optax")
def optax_hessian_diag() -> Program:
    """The diagonal of the Hessian, by one product for each parameter."""
    import optax

    params = {"w": weight(2, 8, 2), "v": weight(3, 2, 4)}
    flat, unravel = ravel_pytree(params)
    of_flat = lambda flat, x, y: loss(unravel(flat), x, y)
    return lambda flat: optax.second_order.hessian_diag(of_flat, flat, X, Y), (flat,)


@client("optax")
def optax_fisher_diag() -> Program:
    """The diagonal of the Fisher information."""
    import optax

    flat, unravel = ravel_pytree(PARAMS)
    log_likelihood = lambda flat, x, y: -loss(unravel(flat), x, y)
    return lambda flat: optax.second_order.fisher_diag(log_likelihood, flat, X, Y), (flat,)


def _line_search(optimizer: Any) -> Program:
    import optax

    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(state, _):
        params, opt_state = state
        value, grads = value_and_grad(params, state=opt_state)
        updates, opt_state = optimizer.update(
            grads, opt_state, params, value=value, grad=grads, value_fn=loss
        )
        return (optax.apply_updates(params, updates), opt_state), value

    def run(params):
        (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), length=4)
        return params, values

    return run, (PARAMS,)


@client("optax", ulps=4096)
def optax_lbfgs() -> Program:
    """L-BFGS, whose zoom line search differentiates along its line."""
    import optax

    return _line_search(optax.lbfgs())


@client("optax", ulps=4096)
def optax_backtracking() -> Program:
    """Gradient descent with a backtracking line search."""
    import optax

    search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=8, store_grad=True)
    return _line_search(optax.chain(optax.sgd(1.0), search))


@client("optax", ulps=256)
def optax_sam() -> Program:
    """Sharpness-aware minimization, which asks for a gradient within its update."""
    import optax

    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    optimizer = optax.contrib.sam(optax.sgd(0.1), adversary, sync_period=2, opaque_mode=True)

    def run(params):
        state = optimizer.init(params)
        grads = jax.grad(loss)(params)
        again = lambda params, _: jax.grad(loss)(params)
        return optimizer.update(grads, state, params, grad_fn=again)[0]

    return run, (PARAMS,)


@client("flax")
def flax_nnx() -> Program:
    """nnx.value_and_grad of a model with state: dropout, batch statistics."""
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(8, 16, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.drop = nnx.Dropout(0.2, rngs=rngs)
            self.last = nnx.Linear(16, 4, rngs=rngs)

        def __call__(self, x):
            return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))

    graph, state = nnx.split(Model(nnx.Rngs(0)))

    def run(state):
        model = nnx.merge(graph, state)
        squared = lambda model: jnp.mean((model(X) - Y) ** 2)
        value, grads = nnx.value_and_grad(squared)(model)
        return value, grads, nnx.state(model, nnx.BatchStat)

    return run, (state,)


@client("flax")
def flax_dynamic_scale() -> Program:
    """A step in float16, its loss scaled by DynamicScale."""
    from flax.training.dynamic_scale import DynamicScale

    def run(params):
        half = jax.tree.map(lambda x: x.astype(jnp.float16), params)
        narrow = lambda params: loss(params, X.astype(jnp.float16), Y.astype(jnp.float16))
        scale, is_finite, value, grads = DynamicScale().value_and_grad(narrow)(half)
        return scale.scale, is_finite, value, grads

    return run, (PARAMS,)


@client("flax")
def flax_fp8() -> Program:
    """A dense layer in fp8, whose statistics travel as gradients."""
    from flax import linen as nn

    layer: Any = nn.Dense(8, dot_general_cls=nn.Fp8DirectDotGeneralOp)
    variables = layer.init(jax.random.key(0), X)
    return jax.grad(lambda v: jnp.sum(layer.apply(v, X).astype(jnp.float32) ** 2)), (variables,)


@client("flax")
def flax_lifted_vjp() -> Program:
    """nn.vjp within a module: the gradient of the output in the input."""
    from flax import linen as nn

    class Energy(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(4)
            scalar = lambda dense, x: jnp.sum(jnp.tanh(dense(x)))
            energy, pullback = nn.vjp(scalar, dense, x)
            return energy, pullback(jnp.ones_like(energy))[1]

    model: Any = Energy()
    variables = model.init(jax.random.key(0), X)
    force = lambda v: jnp.sum(model.apply(v, X)[1] ** 2)
    return jax.value_and_grad(force), (variables,)


@client("equinox")
def equinox_filter_grad() -> Program:
    """eqx.filter_value_and_grad of an MLP, and eqx.filter_vjp."""
    import equinox as eqx

    model = eqx.nn.MLP(8, 4, 16, 2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_inexact_array)

    def run(params):
        model = eqx.combine(params, static)
        squared = lambda model: jnp.mean((jax.vmap(model)(X) - Y) ** 2)
        value, grads = eqx.filter_value_and_grad(squared)(model)
        out, pullback = eqx.filter_vjp(jax.vmap(model), X)
        return value, eqx.filter(grads, eqx.is_array), pullback(jnp.cos(out))

    return run, (params,)


@client("equinox")
def equinox_hessian() -> Program:
    """eqx.filter_hessian and eqx.filter_jacrev."""
    import equinox as eqx

    model = eqx.nn.MLP(4, "scalar", 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    return lambda x: (eqx.filter_hessian(model)(x), eqx.filter_jacrev(model)(x)), (normal(4, 4),)


@client("haiku")
def haiku_state() -> Program:
    """hk.value_and_grad within a transformed function, which carries its state along."""
    import haiku as hk

    def forward(x, y):
        net = hk.nets.MLP([16, 4])
        norm = hk.BatchNorm(True, True, 0.9)
        squared = lambda x: jnp.mean((net(norm(x, True)) - y) ** 2)
        squared(x)  # makes the parameters
        return hk.value_and_grad(squared)(x)

    model = hk.transform_with_state(forward)
    params, state = model.init(jax.random.key(0), X, Y)

    def run(params, state):
        slopes = lambda p: jnp.sum(model.apply(p, state, None, X, Y)[0][1] ** 2)
        return model.apply(params, state, None, X, Y), jax.grad(slopes)(params)

    return run, (params, state)


@client("jax_privacy")
def privacy_clipped_grad() -> Program:
    """The sum of the gradients of single examples, each clipped."""
    from jax_privacy import clipping

    one = lambda params, x, y: loss(params, x, y)
    clipped = clipping.clipped_grad(one, l2_clip_norm=0.5, batch_argnums=(1, 2))
    return clipped, (PARAMS, X, Y)


CLIENTS = clients_of(globals())
