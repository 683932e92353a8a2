"""Memory and time of a loop's gradient against its trip count: fbp beside jax.grad.

    python -m benchmarks.loops [--trips 10 100 1000 10000 100000] [--repeats 7]

The loop is h <- tanh(h W + b), of width 16 and batch 16, so that a state takes 1 KB. It is run as
a scan, whose trip count the program knows, and as a while_loop whose trip count is an argument.
Memory is `memory_analysis().temp_size_in_bytes`; time is the median of interleaved steps.

A second table is of loops that change or read parts of an array of n numbers: `recurrence` is
d[i] <- d[i] + sin(d[i - 1]) for all i, and each iteration of `table` reads two rows of four numbers
of a constant. The growth is the time for 4 n over that for n.
"""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from jax import lax

import fbp
from benchmarks.gradients import VALUE_AND_GRAD, check_same, line, timed
from benchmarks.program import normal, weight

RAISES = "raises"


@dataclasses.dataclass
class Arguments:
    """How many iterations, and how often to measure."""

    trips: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    entries: tuple[int, ...] = (1_000, 4_000)
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
    seconds = medians(compiled, arguments, repeats)
    memory = {n: f"{c.memory_analysis().temp_size_in_bytes / 1e6:.3f}" for n, c in compiled.items()}
    times = {n: f"{1e3 * s:.2f}" for n, s in seconds.items()}
    return [f"{trips:,}", *(column.get(n, RAISES) for column in (memory, times) for n in gradients)]


def medians(programs: dict[str, Any], arguments: tuple, repeats: int) -> dict[str, float]:
    """Return the seconds of each program, run in turn with the others."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(repeats):
        for name in programs if turn % 2 else reversed(programs):
            run = lambda f=programs[name]: jax.block_until_ready(f(*arguments))
            seconds[name].append(timed(run)[0])
    return {name: statistics.median(s) for name, s in seconds.items()}


# Parts of arrays


def recurrence(d: jax.Array, weights: jax.Array) -> jax.Array:
    """Change one entry of an array in each iteration."""
    step = lambda d, i: (d.at[i].add(jnp.sin(d[i - 1])), None)
    return jnp.vdot(weights, lax.scan(step, d, jnp.arange(1, d.size))[0])


def table(d: jax.Array, weights: jax.Array) -> jax.Array:
    """Read two rows of a constant in each iteration."""
    rows = d.reshape(-1, 4)
    step = lambda h, i: (jnp.tanh(h + rows[i] * rows[i // 2]), None)
    h, _ = lax.scan(step, weights[:4], jnp.arange(d.size // 4))
    return jnp.sum(h)


PARTS = {"recurrence": recurrence, "table": table}


def measure_parts(name: str, entries: int, repeats: int) -> list[str]:
    """One line of the second table: milliseconds of each contender for n entries and for 4 n."""
    seconds = []
    sides = {"forward": lambda loss: loss, "fbp": fbp.grad, "jax": jax.grad}
    for size in (entries, 4 * entries):
        arguments = normal(0, size, scale=0.1), normal(1, size)
        programs = {
            side: jax.jit(grad(PARTS[name])).lower(*arguments).compile()
            for side, grad in sides.items()
        }
        check_same({s: programs[s] for s in VALUE_AND_GRAD}, arguments, ulps=4096)
        seconds.append(medians(programs, arguments, repeats))
    few, many = seconds
    cells = (f"{1e3 * few[side]:.2f}, {1e3 * many[side]:.2f}" for side in sides)
    return [name, f"{entries:,}", *cells, *(f"{many[side] / few[side]:.1f}" for side in sides)]


def main() -> None:
    """Print the table, in Markdown."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}\n")
    names = [f"{side}, {loop}" for loop in ("scan", "while_loop") for side in VALUE_AND_GRAD]
    print(line("trips", *(f"{n}: MB" for n in names), *(f"{n}: ms" for n in names)))
    print(line(*("---:" for _ in range(2 * len(names) + 1))))
    for trips in arguments.trips:
        print(line(*measure(trips, arguments.repeats)), flush=True)
    sides = ("forward", *VALUE_AND_GRAD)
    print()
    print(line("loop", "n", *(f"{s}: ms" for s in sides), *(f"{s}: growth" for s in sides)))
    print(line("---", *("---:" for _ in range(2 * len(sides) + 1))))
    for name in PARTS:
        for entries in arguments.entries:
            print(line(*measure_parts(name, entries, arguments.repeats)), flush=True)


if __name__ == "__main__":
    main()
