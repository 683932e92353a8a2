"""What a check costs: the time of `fbp.verify.check` beside that of one gradient.

    python -m benchmarks.check_cost

An MLP of 1,000,000 parameters, batch 128. A check stages the same programs whatever the size of
the layers: its time for a tiny network is what that takes, and the rest is running them. Work is
counted too, apart from time: the operations of every compiled program, times its calls.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

import fbp
from benchmarks.program import normal, weight
from fbp.verify import check

SIZES = (784, 700, 600, 50, 10)
TINY = (3, 4, 5, 6, 10)
REPEATS = 3


def loss(params: list[dict[str, jax.Array]], x: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy of an MLP with tanh."""
    *hidden, last = params
    for layer in hidden:
        x = jnp.tanh(x @ layer["w"] + layer["b"][None])
    logits = x @ last["w"] + last["b"][None]
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * labels, axis=-1))


def arguments(sizes: tuple[int, ...], batch: int) -> tuple[Any, jax.Array, jax.Array]:
    """Parameters, inputs and labels."""
    shapes = list(itertools.pairwise(sizes))
    params = [{"w": weight(i, *s), "b": jnp.zeros(s[1])} for i, s in enumerate(shapes)]
    labels = jax.nn.one_hot(jnp.arange(batch) % sizes[-1], sizes[-1])
    return params, normal(10, batch, sizes[0]), labels


def running(run: Callable[[], Any]) -> float:
    """How many seconds of a call are not spent in the compiler."""
    compiling: list[float] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if "backend_compile" in event:
            compiling.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start - sum(compiling)


def work(run: Callable[[], Any]) -> float:
    """The floating-point operations of all compiled programs that a call runs.

    float64 counts as float32 does. `jax.jit` is replaced for the duration of the call.
    """
    total = 0.0
    plain = jax.jit

    def counting(fun: Callable, **settings: Any) -> Callable:
        compiled = plain(fun, **settings)

        def call(*args: Any) -> Any:
            nonlocal total
            if not any(isinstance(x, Tracer) for x in jax.tree.leaves(args)):
                cost = compiled.lower(*args).compile().cost_analysis()
                total += dict(cost or {}).get("flops", 0.0)
            return compiled(*args)

        return call

    jax.jit = counting  # type: ignore[assignment]
    try:
        run()
    finally:
        jax.jit = plain
    return total


def main() -> None:
    """Print the figures."""
    large, small = arguments(SIZES, 128), arguments(TINY, 2)
    gradient = jax.jit(fbp.grad(loss))
    jax.block_until_ready(gradient(*large))
    check(loss, *small)
    times = [
        (
            running(lambda: gradient(*large)),
            running(lambda: check(loss, *large).ok),
            running(lambda: check(loss, *small).ok),
        )
        for _ in range(REPEATS)
    ]
    step, whole, staged = map(statistics.median, zip(*times, strict=True))
    count = sum(x.size for x in jax.tree.leaves(large[0]))
    print(f"{count:,} parameters, medians of {REPEATS}, without the compiler's time")
    print(f"one gradient                   {1e3 * step:8.1f} ms")
    print(f"its check                      {1e3 * whole:8.1f} ms")
    print(f"the same check, tiny network   {1e3 * staged:8.1f} ms: staging")
    print(f"difference                     {(whole - staged) / step:8.1f} gradients of time")
    one = work(lambda: jax.jit(fbp.grad(loss))(*large))
    count_of_check = work(lambda: check(loss, *large))
    print(f"its work                       {count_of_check / one:8.1f} gradients of operations")


if __name__ == "__main__":
    main()
