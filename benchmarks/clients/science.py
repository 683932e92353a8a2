"""Libraries for science: solvers, simulations, transforms, and what they are fitted by."""

# The types of libraries of others, which need not be installed, are loose.
# pyright: reportMissingImports=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import warnings

import jax
import jax.numpy as jnp

from benchmarks.clients.client import Program, client, clients_of
from benchmarks.program import normal


@client("quadax", ulps=256)
def quadax_adaptive() -> Program:
    """An adaptive integral in its limits and its parameter, step by step."""
    import quadax

    def integral(interval, rate):
        fun = lambda x, rate: jnp.exp(-rate * x) * jnp.cos(x)
        return quadax.quadgk(fun, interval, (rate,), epsabs=1e-4, epsrel=1e-4, max_ninter=8)[0]

    return jax.value_and_grad(integral, argnums=(0, 1)), (jnp.array([0.0, 2.0]), 1.3)


@client("quadax", ulps=256)
def quadax_leibniz() -> Program:
    """The same by Leibniz's rule, whose author states a transpose and no derivative."""
    import quadax

    def integral(interval, rate):
        fun = lambda x, rate: jnp.exp(-rate * x) * jnp.cos(x)
        adjoint = quadax.LeibnizAdjoint()
        options = {"epsabs": 1e-4, "epsrel": 1e-4, "max_ninter": 8, "adjoint": adjoint}
        return quadax.quadgk(fun, interval, (rate,), **options)[0]

    return jax.value_and_grad(integral, argnums=(0, 1)), (jnp.array([0.0, 2.0]), 1.3)


@client("interpax", ulps=256)
def interpax_splines() -> Program:
    """Cubic and monotonic splines in their knots' values and in the points asked for."""
    import interpax

    x = jnp.linspace(0.0, 1.0, 9)

    def fitted(values, points):
        spline = interpax.CubicSpline(x, values, check=False)(points)
        monotonic = interpax.PchipInterpolator(x, values, check=False)(points)
        return jnp.sum(jnp.sin(spline) + monotonic**2)

    points = jnp.array([0.13, 0.41, 0.77])
    return jax.value_and_grad(fitted, argnums=(0, 1)), (normal(0, 9), points)


@client("interpax", ulps=256)
def interpax_surface() -> Program:
    """A bicubic surface."""
    import interpax

    x = y = jnp.linspace(0.0, 1.0, 6)

    def surface(values, points):
        return jnp.sum(interpax.interp2d(points, points[::-1], x, y, values, method="cubic") ** 2)

    points = jnp.array([0.13, 0.41, 0.77])
    return jax.value_and_grad(surface, argnums=(0, 1)), (normal(0, 6, 6), points)


@client("exponax", ulps=1024)
def exponax_burgers() -> Program:
    """Burgers' equation by exponential time differencing, in its start and its diffusivity."""
    import exponax

    grid = jnp.linspace(0, 1, 32, endpoint=False)
    start = jnp.sin(2 * jnp.pi * grid)[None]

    def last(start, diffusivity):
        stepper = exponax.stepper.Burgers(1, 1.0, 32, 0.01, diffusivity=diffusivity)
        return jnp.mean(exponax.repeat(stepper, 10)(start) ** 2)

    return jax.value_and_grad(last, argnums=(0, 1)), (start, 0.05)


@client("s2fft", ulps=256)
def s2fft_round_trip() -> Program:
    """Spherical harmonics transformed to the sphere and back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import s2fft

    band = 6
    shape = band, 2 * band - 1
    coefficients = (normal(0, *shape) + 1j * normal(1, *shape)).astype(jnp.complex64)

    def energy(coefficients):
        signal = s2fft.inverse_jax(coefficients, band)
        again = s2fft.forward_jax(jnp.sin(signal.real), band)
        return jnp.sum(jnp.abs(again) ** 2)

    return jax.value_and_grad(energy), (coefficients,)


@client("jax_md", ulps=1024)
def jax_md_trajectory() -> Program:
    """A trajectory of soft spheres in their size; its forces are by `grad`, imported by name."""
    from jax_md import energy, simulate, space

    displacement, shift = space.periodic(4.0)
    start = 4 * jax.random.uniform(jax.random.key(0), (12, 2))

    def spread(size):
        pairs = energy.soft_sphere_pair(displacement, sigma=size)
        init, apply = simulate.nve(pairs, shift, dt=1e-2)
        state = init(jax.random.key(1), start, kT=0.1)
        state = jax.lax.fori_loop(0, 5, lambda _, state: apply(state), state)
        return jnp.mean(state.position**2), state.force

    return jax.value_and_grad(spread, has_aux=True), (1.2,)


@client("jaxley", ulps=2**16, in_double=True)
def jaxley_neuron() -> Program:
    """A Hodgkin-Huxley compartment, its voltage in the sodium conductance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import jaxley
        from jaxley.channels import HH

        cell = jaxley.Compartment()
        cell.insert(HH())
        cell.record("v", verbose=False)
        cell.stimulate(jaxley.step_current(0.2, 1.0, 0.1, 0.025, 2.0), verbose=False)
        cell.make_trainable("HH_gNa", verbose=False)
    params = cell.get_parameters()

    def voltage(params):
        return jnp.mean(jaxley.integrate(cell, params=params, t_max=2.0) ** 2)

    return jax.value_and_grad(voltage), (params,)


@client("jraph")
def jraph_network() -> Program:
    """A step of message passing, in the weights of its messages and of its nodes."""
    import jraph

    graph = jraph.GraphsTuple(
        nodes=normal(0, 5, 4), edges=normal(1, 6, 4),
        senders=jnp.array([0, 1, 2, 3, 4, 0]), receivers=jnp.array([1, 2, 3, 4, 0, 2]),
        n_node=jnp.array([5]), n_edge=jnp.array([6]), globals=normal(2, 1, 4),
    )  # fmt: skip

    def loss(weights):
        dense = lambda name: lambda *inputs: jnp.tanh(sum(inputs[:3]) @ weights[name])
        edge = lambda e, s, r, g: jnp.tanh((e + s + r + g) @ weights["edge"])
        network = jraph.GraphNetwork(edge, dense("node"), dense("global"))
        return jnp.sum(network(graph).globals ** 2) + jnp.sum(network(graph).nodes)

    weights = {"edge": normal(3, 4, 4), "node": normal(4, 4, 4), "global": normal(5, 4, 4)}
    return jax.value_and_grad(loss), (weights,)


@client("e3nn_jax", ulps=256)
def e3nn_product() -> Program:
    """A tensor product of spherical harmonics, and e3nn's own grad of an invariant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import e3nn_jax as e3nn

    def invariant(x):
        harmonics = e3nn.spherical_harmonics("1o + 2e", e3nn.IrrepsArray("1o", x), False)
        return e3nn.tensor_product(harmonics, harmonics).filter("0e").array.sum()

    def run(x):
        of_irreps = lambda x: e3nn.IrrepsArray("0e", invariant(x.array)[None])
        by_e3nn = e3nn.grad(of_irreps)(e3nn.IrrepsArray("1o", x)).array
        return jax.value_and_grad(lambda x: invariant(x) + jnp.sum(jnp.sin(x)))(x), by_e3nn

    return run, (jnp.array([0.3, -0.7, 1.1]),)


@client("brax", ulps=4096)
def brax_pendulum() -> Program:
    """Three steps of an inverted pendulum, in the action, as analytic policy gradients have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brax import envs

        environment = envs.get_environment("inverted_pendulum", backend="spring")
    state = jax.jit(environment.reset)(jax.random.key(0))

    def reached(actions):
        step = lambda state, action: (environment.step(state, action), state.reward)
        last, rewards = jax.lax.scan(step, state, actions)
        return jnp.sum(last.obs**2) + jnp.sum(rewards)

    return jax.value_and_grad(reached), (0.1 * normal(0, 3, environment.action_size),)


CLIENTS = clients_of(globals())
