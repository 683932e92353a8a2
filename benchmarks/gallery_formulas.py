"""The methods of `fbp.gallery` on 5-4-4-3 with ReLU, derived by hand, in NumPy.

Layers z = a W + b, a = max(z, 0) but after the last; loss mean over n of -sum y log softmax(z).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]


class Run(NamedTuple):
    """Inputs a[l] and outputs z[l] of the layers, and softmax(z) - y of each example."""

    a: list[np.ndarray]
    z: list[np.ndarray]
    error: np.ndarray


def forward(layers: Layers, x: np.ndarray, y: np.ndarray) -> Run:
    a, z = [x], []
    for w, b in layers:
        z.append(a[-1] @ w + b)
        a.append(np.maximum(z[-1], 0))
    p = np.exp(z[-1] - z[-1].max(1, keepdims=True))
    return Run(a[:-1], z, p / p.sum(1, keepdims=True) - y)


def deltas(
    layers: Layers,
    run: Run,
    top: np.ndarray,
    back: Callable[[int], np.ndarray] | None = None,
    change: Callable[[np.ndarray], np.ndarray] = lambda ct: ct,
) -> list[np.ndarray]:
    """Return the cotangents of the layers' outputs, from that of the last, with other weights on
    the way back, or a change of what arrives at each layer."""
    result = [change(top)]
    for i in range(len(layers) - 1, 0, -1):
        w = layers[i][0] if back is None else back(i)
        result.append(change(result[-1] @ w.T * (run.z[i - 1] > 0)))
    return result[::-1]


def gradients(run: Run, ds: list[np.ndarray]) -> Layers:
    return [(a.T @ d, d.sum(0)) for a, d in zip(run.a, ds, strict=True)]


def per_example(layers: Layers, x: np.ndarray, y: np.ndarray) -> Layers:
    run = forward(layers, x, y)
    ds = deltas(layers, run, run.error)
    return [(a[:, :, None] * d[:, None, :], d) for a, d in zip(run.a, ds, strict=True)]


def squared_norms(layers: Layers, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    each = per_example(layers, x, y)
    return sum((w**2).sum((1, 2)) + (b**2).sum(1) for w, b in each)  # pyright: ignore


def columns(layers: Layers, x: np.ndarray, y: np.ndarray) -> tuple[Run, list[list[np.ndarray]]]:
    """For each class c the cotangents of s_c = sqrt(p_c) (e_c - p): sum over c of s_c s_c' is the
    Hessian diag(p) - p p' of the loss."""
    run = forward(layers, x, y)
    p = run.error + y
    tops = [np.sqrt(p[:, [c]]) * (np.eye(3)[c] - p) for c in range(3)]
    return run, [deltas(layers, run, top) for top in tops]


def diagonal_ggn(layers: Layers, x: np.ndarray, y: np.ndarray) -> Layers:
    run, by_class = columns(layers, x, y)
    sums = lambda i: sum(d[i] ** 2 for d in by_class)
    return [
        ((run.a[i] ** 2).T @ sums(i) / len(x), sums(i).sum(0) / len(x))  # pyright: ignore
        for i in range(3)
    ]


def kfac(layers: Layers, x: np.ndarray, y: np.ndarray) -> Layers:
    """Pairs (A, G)."""
    run, by_class = columns(layers, x, y)
    n = len(x)
    return [(run.a[i].T @ run.a[i] / n, sum(d[i].T @ d[i] for d in by_class) / n) for i in range(3)]  # pyright: ignore


def batch_variance(layers: Layers, x: np.ndarray, y: np.ndarray) -> Layers:
    return [(w.var(0), b.var(0)) for w, b in per_example(layers, x, y)]


def noise_scale(layers: Layers, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    each = np.concatenate(
        [g.reshape(len(x), -1) for pair in per_example(layers, x, y) for g in pair], axis=1
    )
    trace = each.var(0, ddof=1).sum()
    squared = (each.mean(0) ** 2).sum() - trace / len(x)
    return np.array([trace / squared, trace, squared])


def clipped(layers: Layers, x: np.ndarray, y: np.ndarray, limit: float) -> Layers:
    factors = np.minimum(1, limit / np.sqrt(squared_norms(layers, x, y)))
    return [
        ((factors[:, None, None] * w).sum(0), (factors[:, None] * b).sum(0))
        for w, b in per_example(layers, x, y)
    ]


def as_numpy(layers: Any) -> Layers:
    return [(np.asarray(w), np.asarray(b)) for w, b in layers]


def backward(layers: Layers, x: np.ndarray, y: np.ndarray, **changes: Any) -> Layers:
    """Return the gradients of the mean loss, with a changed way back."""
    run = forward(layers, x, y)
    return gradients(run, deltas(layers, run, run.error / len(x), **changes))


def direct(layers: Layers, x: np.ndarray, y: np.ndarray, feedback: list[np.ndarray]) -> Layers:
    run = forward(layers, x, y)
    error = run.error / len(x)
    ds = [error @ b * (z > 0) for b, z in zip(feedback, run.z, strict=False)]
    return gradients(run, [*ds, error])


def meprop(layers: Layers, x: np.ndarray, y: np.ndarray, k: int) -> Layers:
    """Return gradients of products that see the k largest entries; a bias sees all."""
    run, result = forward(layers, x, y), []
    arrived = run.error / len(x)
    for i in range(len(layers) - 1, -1, -1):
        order = np.argsort(-np.abs(arrived), axis=1)[:, :k]
        kept = np.zeros_like(arrived)
        np.put_along_axis(kept, order, np.take_along_axis(arrived, order, 1), 1)
        result.append((run.a[i].T @ kept, arrived.sum(0)))
        if i:
            arrived = kept @ layers[i][0].T * (run.z[i - 1] > 0)
    return result[::-1]


def clipped_by_layer(layers: Layers, x: np.ndarray, y: np.ndarray, limit: float) -> Layers:
    """Return gradients of products that see what arrives clipped; a bias sees it whole."""
    run, result = forward(layers, x, y), []
    arrived = run.error / len(x)
    for i in range(len(layers) - 1, -1, -1):
        kept = arrived * min(1, limit / np.sqrt((arrived**2).sum()))
        result.append((run.a[i].T @ kept, arrived.sum(0)))
        if i:
            arrived = kept @ layers[i][0].T * (run.z[i - 1] > 0)
    return result[::-1]


def signs(layers: Layers) -> list[np.ndarray]:
    return [np.sign(w) * np.sqrt(2 / sum(w.shape)) for w, _ in layers]


def of_outputs(layers: Layers, x: np.ndarray, top: Callable[[np.ndarray], np.ndarray]) -> Layers:
    """Return the gradients from the cotangent of the outputs, a function of these."""
    run = forward(layers, x, np.zeros((len(x), 3)))
    return gradients(run, deltas(layers, run, top(run.z[-1])))


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def map_of_input(
    layers: Layers, x: np.ndarray, relu: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return the gradient of the sum of the outputs; `relu(ct, z)` is what a ReLU passes."""
    run = forward(layers, x, np.zeros((len(x), 3)))
    ct = np.ones_like(run.z[-1])
    for i in range(len(layers) - 1, -1, -1):
        ct = ct @ layers[i][0].T
        ct = relu(ct, run.z[i - 1]) if i else ct
    return ct


Shares = Callable[[np.ndarray, np.ndarray, np.ndarray], list[tuple[np.ndarray, np.ndarray]]]
"""From inputs [n, j, 1], weights [1, j, k] and bias [1, k]: shares q [n, j, k], and the bias's."""


def relevance(layers: Layers, x: np.ndarray, shares: Shares, first: Shares) -> np.ndarray:
    """Return the relevance of an input: sums over k of q_jk R_k / stab(sum over j of q + bias)."""
    run = forward(layers, x, np.zeros((len(x), 3)))
    r = run.z[-1]
    for i in range(len(layers) - 1, -1, -1):
        w, b = layers[i]
        total = 0
        for q, bias in (shares if i else first)(run.a[i][:, :, None], w[None], b[None]):
            z = q.sum(1) + bias
            s = r / (z + 1e-6 * np.where(z < 0, -1, 1))
            total = total + (q * s[:, None, :]).sum(2)
        r = total
    return np.asarray(r)


def by_gamma(a: np.ndarray, w: np.ndarray, b: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    sign = np.sign((a * w).sum(1) + b)
    favored = lambda q, s: q + 0.25 * s * np.maximum(s * q, 0)
    return [(favored(a * w, sign[:, None, :]), favored(b, sign))]


def by_box(a: np.ndarray, w: np.ndarray, b: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(a * w + 3 * np.maximum(w, 0) - 4 * np.minimum(w, 0), 0 * b)]


SHARES: dict[str, Shares] = {
    "epsilon": lambda a, w, b: [(a * w, b)],
    "gamma": by_gamma,
    "z_plus": lambda a, w, b: [(np.maximum(a * w, 0), np.maximum(b, 0))],
    "w_squared": lambda a, w, b: [(w**2 + 0 * a, b**2)],
    "flat": lambda a, w, b: [(1 + 0 * a * w, 0 * b)],
}


def alpha_beta(layers: Layers, x: np.ndarray) -> np.ndarray:
    run = forward(layers, x, np.zeros((len(x), 3)))
    r = run.z[-1]
    for i in range(len(layers) - 1, -1, -1):
        w, b = layers[i]
        q, total = run.a[i][:, :, None] * w[None], 0
        for factor, part in ((2, np.maximum), (-1, np.minimum)):
            z = part(q, 0).sum(1) + part(b, 0)
            s = factor * r / (z + 1e-6 * np.where(z < 0, -1, 1))
            total = total + (part(q, 0) * s[:, None, :]).sum(2)
        r = total
    return np.asarray(r)
