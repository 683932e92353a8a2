"""Libraries for inference: likelihoods, flows, transport, and learning from rewards."""

# The types of libraries of others, which need not be installed, are loose.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import jax
import jax.numpy as jnp

from benchmarks.clients.client import Program, client, clients_of
from benchmarks.program import normal, weight


@client("tinygp", ulps=256)
def tinygp_likelihood() -> Program:
    """The marginal likelihood of a Gaussian process in its hyperparameters."""
    import tinygp

    x = jnp.linspace(0.0, 1.0, 12)
    y = jnp.sin(6 * x)

    def likelihood(params):
        kernel = jnp.exp(params["amplitude"]) * tinygp.kernels.Matern32(jnp.exp(params["scale"]))
        process = tinygp.GaussianProcess(kernel, x, diag=jnp.exp(params["noise"]))
        return -process.log_probability(y)

    params = {"amplitude": jnp.float32(0.1), "scale": jnp.float32(-1.0), "noise": jnp.float32(-2)}
    return jax.value_and_grad(likelihood), (params,)


@client("tinygp", ulps=1024)
def tinygp_quasiseparable() -> Program:
    """The same by a quasiseparable solver, which scans."""
    import tinygp

    x = jnp.linspace(0.0, 1.0, 12)
    y = jnp.sin(6 * x)

    def likelihood(params):
        kernel = tinygp.kernels.quasisep.Matern32(jnp.exp(params["scale"]))
        process = tinygp.GaussianProcess(kernel, x, diag=jnp.exp(params["noise"]))
        return -process.log_probability(y)

    params = {"scale": jnp.float32(-1.0), "noise": jnp.float32(-2.0)}
    return jax.value_and_grad(likelihood), (params,)


@client("flowjax", ulps=256)
def flowjax_step() -> Program:
    """flowjax's own training step of a masked autoregressive flow."""
    import equinox as eqx
    import optax
    from flowjax.distributions import Normal
    from flowjax.flows import masked_autoregressive_flow
    from flowjax.train.losses import MaximumLikelihoodLoss
    from flowjax.train.train_utils import step
    from paramax import NonTrainable

    flow = masked_autoregressive_flow(
        jax.random.key(0), base_dist=Normal(jnp.zeros(2)), flow_layers=2, nn_width=8
    )
    params, static = eqx.partition(
        flow, eqx.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, NonTrainable)
    )
    optimizer = optax.sgd(0.1)

    def run(params, x):
        state = optimizer.init(params)
        loss = MaximumLikelihoodLoss()
        options = {"optimizer": optimizer, "opt_state": state, "loss_fn": loss}
        params, _, value = step(params, static, x, key=jax.random.key(1), **options)
        return value, jax.tree.leaves(params)

    return run, (params, normal(0, 16, 2))


def _points() -> tuple[jax.Array, jax.Array]:
    return normal(0, 8, 2), normal(1, 6, 2) + 1


@client("ott", ulps=4096)
def ott_sinkhorn() -> Program:
    """Entropic transport in the points, by implicit differentiation of Sinkhorn's fixed point."""
    from ott.geometry import pointcloud
    from ott.solvers import linear

    def cost(x, y):
        geometry = pointcloud.PointCloud(x, y, epsilon=0.5)
        out = linear.solve(geometry, min_iterations=20, max_iterations=20, inner_iterations=10)
        return out.reg_ot_cost + jnp.sum(out.matrix**2)

    return jax.value_and_grad(cost, argnums=(0, 1)), _points()


@client("ott", ulps=1024)
def ott_unrolled() -> Program:
    """The same through the iterations."""
    from ott.geometry import pointcloud
    from ott.solvers import linear

    def cost(x, y):
        geometry = pointcloud.PointCloud(x, y, epsilon=0.5)
        settings = {"min_iterations": 20, "max_iterations": 20, "inner_iterations": 10}
        out = linear.solve(geometry, implicit_diff=None, **settings)
        return out.reg_ot_cost + jnp.sum(out.matrix**2)

    return jax.value_and_grad(cost, argnums=(0, 1)), _points()


@client("dynamax", ulps=4096)
def dynamax_filter() -> Program:
    """The likelihood of a linear Gaussian state-space model, by its filter."""
    from dynamax.linear_gaussian_ssm import LinearGaussianSSM

    model = LinearGaussianSSM(2, 1)
    params, _ = model.initialize(jax.random.key(0))
    emissions = jnp.sin(jnp.arange(10.0))[:, None]

    def likelihood(weights):
        dynamics = params.dynamics._replace(weights=weights)
        return -model.marginal_log_prob(params._replace(dynamics=dynamics), emissions)

    return jax.value_and_grad(likelihood), (params.dynamics.weights,)


@client("rlax", ulps=256)
def rlax_losses() -> Program:
    """V-trace, a policy gradient and a distributional TD error, in values and logits."""
    import rlax

    rewards, discounts = normal(0, 8), jnp.full((8,), 0.9)
    actions = jnp.arange(8) % 3
    atoms = jnp.linspace(-1.0, 1.0, 5)

    def loss(values, logits, categorical):
        ratios = jnp.exp(jax.nn.log_softmax(logits)[jnp.arange(8), actions])
        errors = rlax.vtrace(values[:-1], values[1:], rewards, discounts, ratios, 0.9)
        policy = rlax.policy_gradient_loss(logits, actions, errors, jnp.ones(8))
        td = jax.vmap(rlax.categorical_td_learning, in_axes=(None, 0, 0, 0, None, 0))(
            atoms, categorical, rewards, discounts, atoms, categorical[::-1]
        )
        return policy + jnp.mean(errors**2) + jnp.mean(td) - rlax.entropy_loss(logits, jnp.ones(8))

    inputs = normal(1, 9), normal(2, 8, 3), normal(3, 8, 5)
    return jax.value_and_grad(loss, argnums=(0, 1, 2)), inputs


@client("optax", ulps=4096)
def ppo_in_one_jit() -> Program:
    """Proximal policy optimization: a pendulum, advantages, epochs of minibatches, in one jit."""
    import optax

    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3))
    start = {
        "first": weight(0, 3, 16), "mean": 0.1 * weight(1, 16, 1), "value": 0.1 * weight(2, 16, 1),
        "log_std": jnp.zeros(1),
    }  # fmt: skip

    def observe(state):
        return jnp.stack([jnp.cos(state[..., 0]), jnp.sin(state[..., 0]), state[..., 1]], -1)

    def act(params, seen):
        hidden = jnp.tanh(seen @ params["first"])
        return hidden @ params["mean"], (hidden @ params["value"])[..., 0]

    def log_density(params, mean, action):
        scaled = (action - mean) / jnp.exp(params["log_std"])
        return jnp.sum(-0.5 * scaled**2 - params["log_std"], -1)

    def step(params, state, key):
        seen = observe(state)
        mean, value = act(params, seen)
        action = mean + jnp.exp(params["log_std"]) * jax.random.normal(key, mean.shape)
        speed = state[..., 1] + 0.1 * (jnp.sin(state[..., 0]) + jnp.clip(action[..., 0], -2, 2))
        moved = jnp.stack([state[..., 0] + 0.1 * speed, speed], -1)
        reward = jnp.cos(state[..., 0]) - 0.01 * action[..., 0] ** 2
        return moved, (seen, action, log_density(params, mean, action), value, reward)

    def advantages(values, last, rewards):
        def backward(carry, x):
            following, value_after = carry
            value, reward = x
            following = reward + 0.95 * value_after - value + 0.9 * following
            return (following, value), following

        zero = jnp.zeros_like(last)
        return jax.lax.scan(backward, (zero, last), (values, rewards), reverse=True)[1]

    def loss(params, batch):
        seen, action, before, advantage, target = batch
        mean, value = act(params, seen)
        ratio = jnp.exp(log_density(params, mean, action) - before)
        clipped = jnp.clip(ratio, 0.8, 1.2) * advantage
        surrogate = jnp.mean(jnp.minimum(ratio * advantage, clipped))
        return 0.5 * jnp.mean((value - target) ** 2) - surrogate, jnp.mean(ratio)

    def minibatch(carry, batch):
        params, opt_state = carry
        (value, ratio), grads = jax.value_and_grad(loss, has_aux=True)(params, batch)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), (value, ratio)

    def iteration(carry, key):
        params, opt_state, state = carry
        keys = jax.random.split(key, 9)
        walk = lambda state, key: step(params, state, key)
        state, (seen, action, before, values, rewards) = jax.lax.scan(walk, state, keys[1:])
        advantage = advantages(values, act(params, observe(state))[1], rewards)
        batch = seen, action, before, advantage, advantage + values
        flat = jax.tree.map(lambda x: x.reshape(32, *x.shape[2:]), batch)
        order = jax.random.permutation(keys[0], 32).reshape(4, 8)
        batches = jax.tree.map(lambda x: x[order], flat)
        (params, opt_state), losses = jax.lax.scan(minibatch, (params, opt_state), batches)
        return (params, opt_state, state), losses

    def train(params):
        carry = params, optimizer.init(params), normal(3, 4, 2)
        return jax.lax.scan(iteration, carry, jax.random.split(jax.random.key(0), 3))[1]

    return train, (start,)


@client("jax", ulps=1024)
def bayesian_evidence() -> Program:
    """Laplace's approximation: a minimum by jax.scipy's BFGS, and the Hessian at it."""
    from jax.scipy import optimize

    x, y = normal(0, 12, 3), normal(1, 12)

    def negative(w):
        return jnp.sum(jnp.log1p(jnp.exp(-y * (x @ w)))) + 0.5 * jnp.sum(w**2)

    def evidence(w):
        found = optimize.minimize(negative, w, method="BFGS", options={"maxiter": 6}).x
        return found, jnp.linalg.slogdet(jax.hessian(negative)(found))[1]

    return evidence, (jnp.zeros(3),)


@client("jax", ulps=256)
def maml() -> Program:
    """Meta-learning: a gradient through gradient steps, for each of four tasks."""
    tasks_x, tasks_y = normal(0, 4, 8, 3), normal(1, 4, 8)

    def loss(w, x, y):
        return jnp.mean((jnp.tanh(x @ w["first"]) @ w["last"] - y) ** 2)

    def adapted(w, x, y):
        for _ in range(2):
            grads = jax.grad(loss)(w, x, y)
            w = jax.tree.map(lambda w, g: w - 0.1 * g, w, grads)
        return loss(w, x, y)

    def over_tasks(w):
        return jnp.mean(jax.vmap(adapted, in_axes=(None, 0, 0))(w, tasks_x, tasks_y))

    weights = {"first": weight(2, 3, 8), "last": normal(3, 8, scale=0.3)}
    return jax.value_and_grad(over_tasks), (weights,)


CLIENTS = clients_of(globals())
