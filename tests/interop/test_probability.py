"""Distrax, TFP, NumPyro and BlackJAX: densities, reparametrised samples, Hamiltonian dynamics."""

import chex
import jax
import jax.numpy as jnp
import pytest

import fbp
from tests.support.agreement import assert_same, total
from tests.support.clients import assert_as_jax, assert_grad, client

distrax = client("distrax")
tfp = client("tensorflow_probability.substrates.jax")
numpyro = client("numpyro")
blackjax = client("blackjax")

tfd = tfp.distributions
dist = client("numpyro.distributions")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tfp's own

KEY = jax.random.key(0)
MEAN = jnp.array([0.3, -0.8, 1.2])
SCALE = jnp.array([0.7, 1.4, 0.4])
TRIANGLE = jnp.array([[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.3, 0.5, 1.3]])
POINT = jnp.array([0.2, 0.5, 0.3])

LOCATION_SCALE = {
    "distrax_normal": distrax.Normal,
    "distrax_laplace": distrax.Laplace,
    "distrax_logistic": distrax.Logistic,
    "distrax_gumbel": distrax.Gumbel,
    "distrax_diagonal": distrax.MultivariateNormalDiag,
    "distrax_lognormal": distrax.LogStddevNormal,
    "distrax_triangular": lambda m, s: distrax.MultivariateNormalTri(m, TRIANGLE * s),
    "distrax_full": lambda m, s: distrax.MultivariateNormalFullCovariance(
        m, TRIANGLE @ TRIANGLE.T + jnp.diag(s)
    ),
    "distrax_transformed": lambda m, s: distrax.Transformed(
        distrax.Normal(m, s), distrax.Chain([distrax.Sigmoid(), distrax.ScalarAffine(0.2, 1.3)])
    ),
    "distrax_mixture": lambda m, s: distrax.MixtureSameFamily(
        distrax.Categorical(logits=m), distrax.Normal(m, s)
    ),
    "tfp_normal": tfd.Normal,
    "tfp_cauchy": tfd.Cauchy,
    "tfp_student": lambda m, s: tfd.StudentT(3 + s, m, s),
    "tfp_truncated": lambda m, s: tfd.TruncatedNormal(m, s, -2.0, 2.5),
    "tfp_triangular": lambda m, s: tfd.MultivariateNormalTriL(m, TRIANGLE * s),
    "tfp_sinh": lambda m, s: tfd.SinhArcsinh(m, s),
    "tfp_gaussian_process": lambda m, s: tfd.GaussianProcess(
        tfp.math.psd_kernels.ExponentiatedQuadratic(s[0], s[1]), m[:, None],
        observation_noise_variance=0.1,
    ),
    "numpyro_normal": dist.Normal,
    "numpyro_halfcauchy": lambda m, s: dist.HalfCauchy(s),
    "numpyro_student": lambda m, s: dist.StudentT(3.0 + s, m, s),
    "numpyro_cholesky": lambda m, s: dist.MultivariateNormal(m, scale_tril=TRIANGLE * s),
    "numpyro_lowrank": lambda m, s: dist.LowRankMultivariateNormal(m, TRIANGLE[:, :2], s),
}  # fmt: skip


@pytest.mark.parametrize("name", LOCATION_SCALE)
def test_log_density(name):
    make = LOCATION_SCALE[name]
    at = POINT[0] if name == "distrax_mixture" else POINT
    log_density = lambda m, s: total(make(m, s).log_prob(at))
    assert_grad(log_density, MEAN, SCALE, argnums=(0, 1), tolerance=64)


SAMPLED = [n for n in LOCATION_SCALE if n not in ("distrax_mixture", "tfp_student")]


@pytest.mark.parametrize("name", [n for n in SAMPLED if "student" not in n])
def test_reparametrised_sample(name):
    make = LOCATION_SCALE[name]

    def draw(m, s):
        made = make(m, s)
        options = {"key": KEY} if name.startswith("numpyro") else {"seed": KEY}
        return total(made.sample(**options))

    assert_grad(draw, MEAN, SCALE, argnums=(0, 1), tolerance=64)


POSITIVE = {
    "tfp_gamma": lambda a, b: tfd.Gamma(a, b),
    "tfp_beta": lambda a, b: tfd.Beta(a, b),
    "tfp_dirichlet": lambda a, b: tfd.Dirichlet(a * b),
    "tfp_kumaraswamy": lambda a, b: tfd.Kumaraswamy(a, b),
    "tfp_weibull": lambda a, b: tfd.Weibull(a, b),
    "numpyro_gamma": lambda a, b: dist.Gamma(a, b),
    "numpyro_beta": lambda a, b: dist.Beta(a, b),
    "numpyro_dirichlet": lambda a, b: dist.Dirichlet(a * b),
    "distrax_gamma": lambda a, b: distrax.Gamma(a, b),
    "distrax_beta": lambda a, b: distrax.Beta(a, b),
}


@pytest.mark.parametrize("name", POSITIVE)
def test_log_density_of_positive_variables(name):
    """Log-gamma and log-beta: digamma differences."""
    log_density = lambda a, b: total(POSITIVE[name](a, b).log_prob(POINT))
    assert_grad(log_density, SCALE + 1, SCALE + 2, argnums=(0, 1), tolerance=64)


@pytest.mark.parametrize("name", [n for n in POSITIVE if "kumaraswamy" not in n])
def test_sample_of_positive_variables(name):
    """Implicit reparametrisation: the samplers are loops with rejection."""
    options = {"key": KEY} if name.startswith("numpyro") else {"seed": KEY}
    draw = lambda a, b: total(POSITIVE[name](a, b).sample(**options))
    assert_grad(draw, SCALE + 1, SCALE + 2, argnums=(0, 1), tolerance=64)


def test_divergences():
    def divergence(m, s):
        p, q = distrax.Normal(m, s), distrax.Normal(0.1, 1.0)
        gammas = tfd.Gamma(s + 1, s), tfd.Gamma(2.0, 1.5)
        return total((p.kl_divergence(q), tfd.kl_divergence(*gammas)))

    assert_grad(divergence, MEAN, SCALE, argnums=(0, 1), tolerance=64)


def test_normalising_flow():
    """A spline coupling's density in its knots."""

    def density(params):
        spline = distrax.RationalQuadraticSpline(params, -3.0, 3.0)
        flow = distrax.Transformed(distrax.Normal(0.0, 1.0), spline)
        return total(jax.vmap(flow.log_prob)(POINT))

    assert_grad(density, jnp.cos(jnp.arange(13.0)), tolerance=64)


def test_hidden_markov_model():
    """The forward algorithm, a scan."""

    def likelihood(logits, means):
        model = distrax.HMM(
            distrax.Categorical(logits=logits[0]),
            distrax.Categorical(logits=logits),
            distrax.Normal(means, 1.0),
        )
        return total(model.forward(jnp.array([0.1, -0.5, 1.4, 0.2])))

    assert_grad(likelihood, TRIANGLE, MEAN, argnums=(0, 1), tolerance=64)


def test_kalman_filter():
    def likelihood(m, s):
        model = tfd.LinearGaussianStateSpaceModel(
            4,
            jnp.array([[1.0, 0.3], [0.0, 0.9]]),
            tfd.MultivariateNormalDiag(m[:2], s[:2]),
            jnp.array([[1.0, 0.2]]),
            tfd.MultivariateNormalDiag(jnp.zeros(1), s[2:]),
            tfd.MultivariateNormalDiag(jnp.zeros(2), s[1:]),
        )
        return model.log_prob(jnp.array([[0.1], [-0.5], [1.4], [0.2]]))

    assert_grad(likelihood, MEAN, SCALE, argnums=(0, 1), tolerance=256)


def schools(y=None):
    """Gelman's eight schools, three of them."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", 3):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, 10 * SCALE), obs=y)


def energy_of_schools():
    """The potential energy in unconstrained coordinates, and a point."""
    info = client("numpyro.infer.util").initialize_model(
        jax.random.PRNGKey(0), schools, model_args=(jnp.array([28.0, 8.0, -3.0]),)
    )
    return info.potential_fn, info.param_info.z


def test_potential_energy():
    energy, z = energy_of_schools()
    assert_grad(energy, z, tolerance=16)


def by_fbp(energy):
    """The same energy, whose gradient JAX takes from fbp."""
    energy_by_fbp = jax.custom_vjp(energy)
    energy_by_fbp.defvjp(lambda z: fbp.vjp(energy, z), lambda pullback, ct: pullback(ct))
    return energy_by_fbp


@pytest.mark.parametrize("kernel", ["HMC", "NUTS"])
def test_numpyro_chain(kernel):
    """A chain whose gradients are fbp's is JAX's chain."""
    energy, z = energy_of_schools()
    infer = client("numpyro.infer")

    def chain(energy):
        mcmc = infer.MCMC(
            getattr(infer, kernel)(potential_fn=energy, step_size=0.1),
            num_warmup=0, num_samples=5, progress_bar=False,
        )  # fmt: skip
        mcmc.run(jax.random.PRNGKey(1), init_params=z)
        return mcmc.get_samples()

    want = chain(energy)
    got = chain(by_fbp(energy))
    chex.assert_trees_all_close(got, want, rtol=1e-3)


def test_variational_bound():
    """The evidence lower bound of a guide, by reparametrised samples."""
    infer = client("numpyro.infer")

    def guide(y=None):
        loc, scale = numpyro.param("loc", MEAN), numpyro.param("scale", SCALE)
        numpyro.sample("mu", dist.Normal(loc[0], scale[0]))
        numpyro.sample("tau", dist.LogNormal(loc[1], scale[1]))
        with numpyro.plate("schools", 3):
            numpyro.sample("theta", dist.Normal(loc, scale))

    bound = infer.Trace_ELBO(num_particles=3)
    y = jnp.array([28.0, 8.0, -3.0])
    loss = lambda params: bound.loss(jax.random.PRNGKey(0), params, schools, guide, y)
    assert_grad(loss, {"loc": MEAN, "scale": SCALE}, tolerance=64)


def test_leapfrog():
    """Hamiltonian dynamics, and the gradient of where it ends in where it began."""
    density = lambda x: -jnp.sum(jnp.cosh(x * SCALE)) + jnp.prod(jnp.sin(x))

    def end(value_and_grad, start):
        force = lambda x: value_and_grad(density)(x)[1]

        def run(start):
            def step(state, _):
                x, p = state
                p = p + 0.05 * force(x)
                x = x + 0.1 * p
                return (x, p + 0.05 * force(x)), density(x)

            return total(jax.lax.scan(step, (start, MEAN), length=8))

        return value_and_grad(run)(start)

    assert_as_jax(end, POINT, tolerance=64)


def test_blackjax_chain():
    """BlackJAX differentiates the log density that it is given: here by fbp's gradient."""
    log_density = lambda x: -jnp.sum(jnp.log(1 + (x - MEAN) ** 2 / SCALE))

    def chain(log_density):
        kernel = blackjax.hmc(log_density, 0.2, SCALE, 4)
        step = lambda state, key: (kernel.step(key, state)[0],) * 2
        run = jax.jit(lambda: jax.lax.scan(step, kernel.init(POINT), jax.random.split(KEY, 6))[1])
        return run().position

    assert_same(chain(by_fbp(log_density)), chain(log_density), tolerance=16)
