"""fbp.value_and_grad beside jax.value_and_grad: staging, compilation, step, memory.

    python -m benchmarks.gradients [--repetitions 9] [--only mlp lstm]

Both are measured in one run, turn by turn; each figure is the ratio fbp / jax of the medians,
with the quartiles of the ratios of pairs. Staging is tracing the gradient to a jaxpr, of a loss
that was never traced before; memory is `memory_analysis().temp_size_in_bytes`.
"""

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import numpy as np
import tyro

import fbp
from benchmarks.programs import PROGRAMS, Program

VALUE_AND_GRAD = {"fbp": fbp.value_and_grad, "jax": jax.value_and_grad}


@dataclasses.dataclass
class Arguments:
    """How often to measure, and what."""

    repetitions: int = 9
    only: tuple[str, ...] = tuple(make.__name__ for make in PROGRAMS)


def timed(fun: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result; the garbage collector waits, as it does in timeit."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    result = fun()
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds, result


def measure(program: Program, repetitions: int) -> dict[str, dict[str, list[float]]]:
    """Seconds (and bytes, equations) of either side, by measure and repetition."""
    figures = {m: {side: [] for side in VALUE_AND_GRAD} for m in MEASURES}
    inputs = (program.params, *program.batch)
    for transform in VALUE_AND_GRAD.values():
        jax.make_jaxpr(transform(program.make()))(*inputs)
    compiled = {}
    for repetition in range(4 * repetitions):
        sides = list(VALUE_AND_GRAD.items())
        for side, transform in sides if repetition % 2 else reversed(sides):
            gradient = jax.jit(transform(program.make()))
            seconds, traced = timed(lambda g=gradient: g.trace(*inputs))
            figures["staging"][side].append(seconds)
            figures["equations"][side].append(_count(traced.jaxpr.jaxpr))
            if repetition < repetitions:
                seconds, lowered = timed(traced.lower)
                figures["lowering"][side].append(seconds)
            if repetition < COMPILATIONS:
                seconds, compiled[side] = timed(lowered.compile)
                figures["compile"][side].append(seconds)
                memory = compiled[side].memory_analysis()
                figures["memory"][side].append(memory.temp_size_in_bytes)
    _same(compiled, inputs)
    calls = _calls(compiled["jax"], inputs)
    for repetition in range(3 * repetitions):
        sides = list(compiled.items())
        for side, step in sides if repetition % 2 else reversed(sides):
            seconds, _ = timed(lambda s=step: [jax.block_until_ready(s(*inputs)) for _ in calls])
            figures["step"][side].append(seconds / len(calls))
    return figures


MEASURES = ("staging", "equations", "lowering", "compile", "step", "memory")
COMPILATIONS = 3


def _count(jaxpr: Any) -> int:
    """Equations, those of inner programs included."""
    inner = jax.extend.core.jaxprs_in_params
    return sum(1 + sum(_count(j) for j in inner(eqn.params)) for eqn in jaxpr.eqns)


def _calls(step: Callable, inputs: tuple) -> range:
    """As many calls as take about 50 ms, so that the clock's grain does not matter."""
    seconds = min(timed(lambda: jax.block_until_ready(step(*inputs)))[0] for _ in range(3))
    return range(max(1, int(0.05 / seconds)))


def _same(compiled: dict[str, Callable], inputs: tuple) -> None:
    """Both sides have computed the same gradient."""
    results = [jax.tree.leaves(step(*inputs)) for step in compiled.values()]
    for a, b in zip(*results, strict=True):
        scale = np.spacing(np.max(np.abs(b)))
        assert np.max(np.abs(a - b)) <= 64 * scale, "the gradients differ"


def main() -> None:
    """Print the table of ratios."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}; ratios fbp / jax")
    print(f"{'':14}" + "".join(f"{m:>24}" for m in MEASURES))
    for make in PROGRAMS:
        if make.__name__ in arguments.only:
            figures = measure(make(), arguments.repetitions)
            print(f"{make.__name__:14}" + "".join(_ratio(**figures[m]) for m in MEASURES))


def _ratio(fbp: list[float], jax: list[float]) -> str:
    ratio = statistics.median(fbp) / max(statistics.median(jax), 1e-12)
    pairs = [a / max(b, 1e-12) for a, b in zip(fbp, jax, strict=True)]
    low, _, high = statistics.quantiles(pairs, n=4) if len(pairs) > 1 else (ratio, 0, ratio)
    return f"{ratio:10.2f} [{low:4.2f}, {high:4.2f}]".rjust(24)


if __name__ == "__main__":
    main()
