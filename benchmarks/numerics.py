"""Losses of statistics, vision, dynamics and linear algebra.

The Gaussian mixture and bundle adjustment are those of ADBench (Srajer, Kukelova and Fitzgibbon,
"A benchmark of selected algorithmic differentiation tools", 2018).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.program import Program, normal, weight


def mixture(points: int = 1000, components: int = 25, dimensions: int = 16) -> Program:
    """Minus the log-likelihood of a Gaussian mixture: 1,000 points, 25 components, 16 dimensions.

    The inverse covariances have the factors Q_k, lower triangular with the diagonal exp(q_k).
    """
    k, d = components, dimensions
    params = {
        "alphas": normal(0, k),
        "means": normal(1, k, d),
        "q": normal(2, k, d, scale=0.1),
        "l": normal(3, k, d * (d - 1) // 2, scale=0.1),
    }
    below = np.tril_indices(d, -1)

    def loss(params, x):
        factors = jnp.zeros((k, d, d)).at[:, below[0], below[1]].set(params["l"])
        factors = factors + jnp.exp(params["q"])[:, :, None] * jnp.eye(d)[None]
        centered = x[:, None] - params["means"][None]
        scaled = jnp.einsum("kij,nkj->nki", factors, centered)
        log_weights = params["alphas"] + params["q"].sum(-1)
        inner = log_weights[None] - 0.5 * (scaled * scaled).sum(-1)
        likelihood = jax.nn.logsumexp(inner, axis=-1).sum()
        prior = 0.5 * ((factors * factors).sum() - params["q"].sum())
        return points * jax.nn.logsumexp(params["alphas"]) - likelihood + prior

    return Program(loss, params, (normal(4, points, d),))


def bundle(cameras: int = 49, points: int = 7776, observations: int = 31843) -> Program:
    """Make the reprojection error of bundle adjustment: 49 cameras, 7,776 points.

    A camera is a rotation vector, a centre, a focal length, a principal point and two
    coefficients of radial distortion.
    """
    rng = np.random.default_rng(0)
    camera = jnp.asarray(rng.integers(0, cameras, observations))
    point = jnp.asarray(rng.integers(0, points, observations))
    lenses = jnp.asarray([0, 0, 0, 0, 0, -8, 1, 0, 0, 0, 0], jnp.float32)
    params = {
        "cameras": normal(1, cameras, 11, scale=0.1) + lenses[None],
        "points": normal(2, points, 3),
        "weights": 1 + normal(3, observations, scale=0.1),
    }

    def rotate(vector, x):
        """Rodrigues' formula."""
        squared = vector @ vector
        angle = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
        axis, cos = vector / angle, jnp.cos(angle)
        turned = x * cos + jnp.cross(axis, x) * jnp.sin(angle) + axis * (axis @ x) * (1 - cos)
        return jnp.where(squared > 0, turned, x + jnp.cross(vector, x))

    def project(camera, x):
        x = rotate(camera[:3], x - camera[3:6])
        flat = x[:2] / x[2]
        r2 = flat @ flat
        return flat * (1 + camera[9] * r2 + camera[10] * r2 * r2) * camera[6] + camera[7:9]

    def loss(params, features):
        seen = jax.vmap(project)(params["cameras"][camera], params["points"][point])
        errors = params["weights"][:, None] * (seen - features)
        priors = 1 - params["weights"] ** 2
        return (errors * errors).sum() + (priors * priors).sum()

    return Program(loss, params, (normal(4, observations, 2, scale=0.3),), ulps=1024)


def kmeans(points: int = 10000, clusters: int = 16, dimensions: int = 8) -> Program:
    """k-means: the sum of squared distances to the nearest of 16 centroids, 10,000 points."""

    def loss(centroids, x):
        differences = x[:, None] - centroids[None]
        return (differences * differences).sum(-1).min(-1).sum()

    return Program(loss, normal(0, clusters, dimensions), (normal(1, points, dimensions),))


def ode(steps: int = 100, width: int = 64, batch: int = 32) -> Program:
    """y' = tanh(y A + a) B by 100 steps of the classical Runge-Kutta method, width 64, batch 32."""
    params = {"A": weight(0, width, width), "a": jnp.zeros(width), "B": weight(1, width, width)}

    def loss(params, y, target):
        def slope(y):
            return jnp.tanh(y @ params["A"] + params["a"][None]) @ params["B"]

        def step(y, _):
            h = 1.0 / steps
            k1 = slope(y)
            k2 = slope(y + h / 2 * k1)
            k3 = slope(y + h / 2 * k2)
            k4 = slope(y + h * k3)
            return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

        y, _ = lax.scan(step, y, None, length=steps)
        return jnp.mean((y - target) ** 2)

    data = (normal(2, batch, width), normal(3, batch, width))
    return Program(loss, params, data, scans=True)


def while_loop(bound: int = 256, width: int = 64, batch: int = 32) -> Program:
    """x <- x + (tanh(x W + b) - x) / 5 until it rests, at most 256 times (some 60 are needed).

    JAX cannot differentiate the loop: beside it stands a scan of 256 steps, masked where the
    loop has ended.
    """
    params = {"w": 0.5 * weight(0, width, width), "b": normal(1, width)}

    def step(params, x):
        return x + 0.2 * (jnp.tanh(x @ params["w"] + params["b"][None]) - x)

    def moves(x, previous):
        return jnp.max(jnp.abs(x - previous)) > 1e-5

    def loss(params, x, target):
        def goes_on(state):
            i, x, previous = state
            return (i < bound) & moves(x, previous)

        def body(state):
            i, x, _ = state
            return i + 1, step(params, x), x

        _, x, _ = lax.while_loop(goes_on, body, (0, x, x + 1))
        return jnp.mean((x - target) ** 2)

    def masked(params, x, target):
        def body(state, _):
            x, previous = state
            return lax.cond(moves(x, previous), lambda: (step(params, x), x), lambda: state), None

        (x, _), _ = lax.scan(body, (x, x + 1), None, length=bound)
        return jnp.mean((x - target) ** 2)

    data = (normal(2, batch, width), normal(3, batch, width))
    return Program(loss, params, data, for_jax=masked, scans=True)


def svd(rows: int = 48, columns: int = 32, batch: int = 16) -> Program:
    """Make the nuclear norm and the distance of the nearest orthogonal matrices, 16 of 48 x 32."""
    spread = 1 + jnp.arange(columns, dtype=jnp.float32)
    params = normal(0, batch, rows, columns) * spread[None, None]

    def loss(a, target):
        u, s, vt = jnp.linalg.svd(a, full_matrices=False)
        return s.sum() + jnp.sum((u @ vt - target) ** 2)

    return Program(loss, params, (normal(1, batch, rows, columns),), ulps=65536)


def triangular(size: int = 64, columns: int = 32, batch: int = 32) -> Program:
    """Minus the log-likelihood of vectors under 32 covariances L L', 64 x 64, 32 vectors each."""
    params = normal(0, batch, size, size, scale=size**-0.5) + 2 * jnp.eye(size)[None]

    def loss(factors, x):
        white = lax.linalg.triangular_solve(factors, x, left_side=True, lower=True)
        diagonal = jnp.diagonal(factors, axis1=-2, axis2=-1)
        return 0.5 * (white * white).sum() + columns * jnp.log(jnp.abs(diagonal)).sum()

    return Program(loss, params, (normal(1, batch, size, columns),), ulps=1024)
