"""Hessian-vector products through loops, beside JAX's: what is computed, and the memory.

    python -m benchmarks.second_order [--only hmm lstm] [--memory]

Each figure is the ratio fbp / jax: operations and transcendental functions of the staged program,
with the trips of its loops, dead code left out; with `--memory` the bytes of temporary memory of
the compiled program. `gradient` is the first derivative, `forward` the tangent of the gradient,
`reverse` the gradient of the gradient times a vector. The goal is 1.1, where memory needs no more.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

import fbp
from fbp.autodiff.dce import dce
from fbp.autodiff.graph import JaxprEqn, hoist_consts, stage
from fbp.autodiff.memory.estimate import work_by

GOAL = 1.1
TRANSCENDENTAL = frozenset(primitive.name for primitive in fbp.RULES.tagged("transcendental"))


def hmm(x: Any) -> Any:
    """Return the log-likelihood of a hidden Markov model: a scan of log-sum-exp."""
    transitions, scores = jax.nn.log_softmax(x["transitions"]), x["scores"]

    def step(alpha, score):
        return jax.nn.logsumexp(alpha[:, None] + transitions, axis=0) + score, None

    alpha, _ = lax.scan(step, scores[0], scores[1:])
    return jax.nn.logsumexp(alpha)


def softplus(x: Any) -> Any:
    """Return the square of the last state of a recurrent softplus."""

    def step(h, row):
        return jnp.log(1 + jnp.exp(h @ x["w"] + row)), None

    h, _ = lax.scan(step, x["rows"][0], x["rows"])
    return jnp.sum(h**2)


def exp_log(x: Any) -> Any:
    """Return a sum over a scan of exp, log, sin and a quotient, entry by entry."""

    def step(h, row):
        y = jnp.exp(-h * row)
        return jnp.log(1 + y) + jnp.sin(h) / (1 + row**2), None

    h, _ = lax.scan(step, x["rows"][0], x["rows"])
    return jnp.sum(h**2)


def lstm(x: Any) -> Any:
    """Return the square of the last state of an LSTM."""

    def step(carry, row):
        h, c = carry
        i, f, o, g = jnp.split(jnp.concatenate([row, h]) @ x["w"], 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros_like(x["rows"][0])
    (h, _), _ = lax.scan(step, (zeros, zeros), x["rows"])
    return jnp.sum(h**2)


def pendulum(x: Any) -> Any:
    """Return the square of the last state of a chain of pendulums, by the midpoint rule."""

    def slope(state):
        angle, speed = state
        return speed, -jnp.sin(angle) + x["w"] @ jnp.sin(angle) - 0.1 * jnp.tanh(speed)

    def step(state, _):
        half = jax.tree.map(lambda s, d: s + 0.05 * d, state, slope(state))
        return jax.tree.map(lambda s, d: s + 0.1 * d, state, slope(half)), None

    (angle, _), _ = lax.scan(step, (x["rows"][0], x["rows"][1]), None, length=100)
    return jnp.sum(angle**2)


def kalman(x: Any) -> Any:
    """Return the log-likelihood of a Kalman filter with the transition `w`."""
    size = x["w"].shape[0]
    noise = jnp.eye(size)

    def step(carry, row):
        mean, cov = carry
        mean, cov = x["w"] @ mean, x["w"] @ cov @ x["w"].T + noise
        chol = jnp.linalg.cholesky(cov + noise)
        error = lax.linalg.triangular_solve(chol, (row - mean)[:, None], left_side=True, lower=True)
        gain = jax.scipy.linalg.cho_solve((chol, True), cov).T
        mean, cov = mean + gain @ (row - mean), cov - gain @ cov
        return (mean, cov), -jnp.sum(error**2) / 2 - jnp.sum(jnp.log(jnp.diagonal(chol)))

    _, terms = lax.scan(step, (jnp.zeros(size), noise), x["rows"])
    return jnp.sum(terms)


FUNCTIONS = {f.__name__: f for f in (hmm, softplus, exp_log, lstm, pendulum, kalman)}


def arguments(fun: Callable) -> Any:
    """Return the parameters of a function: 100 rows of 8 numbers, and a matrix."""
    keys = jax.random.split(jax.random.key(0), 3)
    rows = 0.3 * jax.random.normal(keys[0], (100, 8))
    if fun is hmm:
        return {"scores": rows, "transitions": jax.random.normal(keys[1], (8, 8))}
    if fun is exp_log:
        return {"rows": rows}
    shape = (16, 32) if fun is lstm else (8, 8)
    return {"rows": rows, "w": 0.2 * jax.random.normal(keys[2], shape)}


def products(grad: Callable, fun: Callable) -> dict[str, Callable]:
    """Return what is measured, as functions of parameters and a vector."""

    def along(params: Any, v: Any) -> Any:
        pairs = zip(jax.tree.leaves(grad(fun)(params)), jax.tree.leaves(v), strict=True)
        return sum(jnp.vdot(g, t) for g, t in pairs)

    return {
        "gradient": lambda params, _: grad(fun)(params),
        "forward": lambda params, v: jax.jvp(grad(fun), (params,), (v,))[1],
        "reverse": grad(along),
    }


def counts(program: Callable, args: tuple) -> tuple[float, float]:
    """Return operations and transcendental functions of a staged program."""
    graph = hoist_consts(stage(program, *args)[0])
    kinds = work_by(dce(graph), kind)
    return sum(kinds.values()), kinds.get("transcendental", 0)


def kind(eqn: JaxprEqn) -> str:
    """Name the kind of an equation."""
    return "transcendental" if eqn.primitive.name in TRANSCENDENTAL else "other"


def temporary(program: Callable, args: tuple) -> int:
    """Return the bytes of temporary memory of a compiled program."""
    memory = jax.jit(program).lower(*args).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def main() -> None:
    """Print a row for each function and product."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=FUNCTIONS, default=list(FUNCTIONS))
    parser.add_argument("--memory", action="store_true")
    chosen = parser.parse_args()
    print("| function | product | operations | transcendental | temporary memory |")
    print("|---|---|---|---|---|")
    for name in chosen.only:
        fun = FUNCTIONS[name]
        args = (arguments(fun), arguments(fun))
        ours, theirs = products(fbp.grad, fun), products(jax.grad, fun)
        for product in ours:
            pair = [counts(side[product], args) for side in (ours, theirs)]
            ratios = [a / max(b, 1) for a, b in zip(*pair, strict=True)]
            if chosen.memory:
                used = [temporary(side[product], args) for side in (ours, theirs)]
                ratios.append(used[0] / max(used[1], 1))
            cells = [f"**{r:.2f}**" if r > GOAL else f"{r:.2f}" for r in ratios]
            print(f"| {name} | {product} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
