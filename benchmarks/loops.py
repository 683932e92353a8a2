"""Memory and time of a loop's gradient against its trip count: fbp beside jax.grad.

    python -m benchmarks.loops [--trips 10 100 1000 10000 100000] [--repeats 7]

The loop is h <- tanh(h W + b), of width 16 and batch 16, so that a state takes 1 KB. It is run as
a scan, whose trip count the program knows, and as a while_loop whose trip count is an argument.
Memory is `memory_analysis().temp_size_in_bytes`; time is the median of interleaved steps.
"""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from jax import lax

from benchmarks.gradients import VALUE_AND_GRAD, check_same, line, timed
from benchmarks.program import normal, weight

RAISES = "raises"


@dataclasses.dataclass
class Arguments:
    """How many iterations, and how often to measure."""

    trips: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    repeats: int = 7


def step(params: Any, h: jax.Array) -> jax.Array:
    """One iteration."""
    return jnp.tanh(h @ params["w"] + params["b"][None])


def as_scan(trips: int) -> Callable[..., jax.Array]:
    """Run the loop with a trip count that the program holds."""

    def loss(params, h, _):
        h, _ = lax.scan(lambda h, _: (step(params, h), None), h, None, length=trips)
        return jnp.mean(h * h)

    return loss


def as_while_loop(params: Any, h: jax.Array, trips: jax.Array) -> jax.Array:
    """Run the loop with a trip count that is known when it runs."""

    def body(state):
        i, h = state
        return i + 1, step(params, h)

    _, h = lax.while_loop(lambda state: state[0] < trips, body, (jnp.zeros_like(trips), h))
    return jnp.mean(h * h)


def inputs(trips: int, width: int = 16, batch: int = 16) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters, the first state, and the trip count."""
    params = {"w": weight(0, width, width), "b": normal(1, width, scale=0.1)}
    return params, normal(2, batch, width), jnp.asarray(trips)


def contenders(trips: int) -> dict[str, Any]:
    """Return the compiled gradients, or what the differentiation raised."""
    gradients: dict[str, Any] = {}
    for loop, loss in {"scan": as_scan(trips), "while_loop": as_while_loop}.items():
        for side, value_and_grad in VALUE_AND_GRAD.items():
            gradient = jax.jit(value_and_grad(loss))
            try:
                gradients[f"{side}, {loop}"] = gradient.lower(*inputs(trips)).compile()
            except (NotImplementedError, ValueError) as error:
                gradients[f"{side}, {loop}"] = error
    return gradients


def measure(trips: int, repeats: int) -> list[str]:
    """One line of the table: memory of each contender, then time."""
    gradients = contenders(trips)
    compiled = {name: c for name, c in gradients.items() if not isinstance(c, Exception)}
    arguments = inputs(trips)
    check_same(compiled, arguments, ulps=4096)
    seconds: dict[str, list[float]] = {name: [] for name in compiled}
    for turn in range(repeats):
        for name in compiled if turn % 2 else reversed(compiled):
            run = lambda f=compiled[name]: jax.block_until_ready(f(*arguments))
            seconds[name].append(timed(run)[0])
    memory = {n: f"{c.memory_analysis().temp_size_in_bytes / 1e6:.3f}" for n, c in compiled.items()}
    times = {n: f"{1e3 * statistics.median(s):.2f}" for n, s in seconds.items()}
    return [f"{trips:,}", *(column.get(n, RAISES) for column in (memory, times) for n in gradients)]


def main() -> None:
    """Print the table, in Markdown."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}\n")
    names = [f"{side}, {loop}" for loop in ("scan", "while_loop") for side in VALUE_AND_GRAD]
    print(line("trips", *(f"{n}: MB" for n in names), *(f"{n}: ms" for n in names)))
    print(line(*("---:" for _ in range(2 * len(names) + 1))))
    for trips in arguments.trips:
        print(line(*measure(trips, arguments.repeats)), flush=True)


if __name__ == "__main__":
    main()
