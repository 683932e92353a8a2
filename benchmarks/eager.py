"""fbp.grad beside jax.grad without jit, on six small functions: seconds of a call.

    python -m benchmarks.eager [--repeats 60] [--only newton rnn]

Each call runs the user's Python and every operation by itself, as in a notebook. Both sides are
measured in one process, turn by turn, after calls that compile the operations; the gradients must
agree. `newton` and `backtracking` decide by Python's `while`: fbp evaluates them while it stages
them. The others are staged, then evaluated.
"""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jax import lax

import fbp
from benchmarks.gradients import check_same, line, timed
from benchmarks.program import normal, weight

GRAD = {"fbp": fbp.grad, "jax": jax.grad}
GOAL = 1.0
ULPS = 64


class Case(NamedTuple):
    """A scalar function of one argument, and the point."""

    fun: Callable[[Any], jax.Array]
    x: Any


def polynomial(x):
    """Horner's scheme, in a Python loop."""
    y = jnp.zeros_like(x)
    for k in range(8):
        y = y * x + k
    return y


def newton(a):
    """Find a square root, by Newton's method until the residual is small."""
    x = a
    while abs(x * x - a) > 1e-5:
        x = 0.5 * (x + a / x)
    return x


def backtracking(x):
    """Rosenbrock's function after one step of gradient descent, halved until it descends."""
    step, start = 0.01, rosenbrock(x)
    direction = lax.stop_gradient(x)
    while rosenbrock(x - step * direction) > start:
        step = step / 2
    return rosenbrock(x - step * direction)


def rosenbrock(x):
    """Sum the curved valleys of neighbors."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def mlp(params):
    """Return the cross-entropy of two layers."""
    x, labels = normal(0, 8, 16), jnp.arange(8) % 4
    logits = jnp.tanh(x @ params["hidden"]) @ params["out"]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(8), labels])


def attention(params):
    """Attend by one head over eight tokens."""
    x = normal(1, 8, 16)
    query, key, value = (x @ params[name] for name in ("query", "key", "value"))
    return jnp.sum(jax.nn.softmax(query @ key.T) @ value)


def step(state, x):
    """Update a recurrent cell."""
    return jnp.tanh(state * x), None


def rnn(x):
    """Scan sixteen steps."""
    return jnp.sum(lax.scan(step, jnp.ones(4), x)[0])


CASES = {
    "polynomial": Case(polynomial, jnp.float32(1.5)),
    "newton": Case(newton, jnp.float32(2.0)),
    "backtracking": Case(backtracking, normal(2, 16)),
    "mlp": Case(mlp, {"hidden": weight(3, 16, 32), "out": weight(4, 32, 4)}),
    "attention": Case(attention, {n: weight(5, 16, 8) for n in ("query", "key", "value")}),
    "rnn": Case(rnn, normal(6, 16, 4)),
}


@dataclasses.dataclass
class Arguments:
    """How often to measure, and what."""

    repeats: int = 60
    only: tuple[str, ...] = tuple(CASES)


def measure(case: Case, repeats: int) -> dict[str, list[float]]:
    """Seconds of a call, by side; raises ArithmeticError if the gradients differ."""
    sides = {side: grad(case.fun) for side, grad in GRAD.items()}
    check_same(sides, (case.x,), ULPS)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for repetition in range(repeats + 1):
        for side in sorted(sides, reverse=bool(repetition % 2)):
            gradient = sides[side]
            taken, _ = timed(lambda g=gradient: jax.block_until_ready(g(case.x)))
            seconds[side].append(taken)
    return {side: taken[1:] for side, taken in seconds.items()}


def main() -> None:
    """Print the table, in Markdown."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}; without jit\n")
    print(line("", "fbp.grad", "jax.grad", "ratio"))
    print(line(*("---" for _ in range(4))))
    ratios = []
    for name in arguments.only:
        seconds = measure(CASES[name], arguments.repeats)
        ours, theirs = (statistics.median(seconds[side]) for side in ("fbp", "jax"))
        ratios.append(ours / theirs)
        print(line(name, f"{1e3 * ours:.2f} ms", f"{1e3 * theirs:.2f} ms", f"{ratios[-1]:.2f}"))
    median = statistics.median(ratios)
    shown = f"**{median:.2f}**" if round(median, 2) > GOAL else f"{median:.2f}"
    print(line("median", "", "", shown))
    print(line("goal", "", "", f"{GOAL:.2f}"))


if __name__ == "__main__":
    main()
