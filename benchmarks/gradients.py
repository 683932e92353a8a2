"""fbp.value_and_grad beside jax.value_and_grad: staging, equations, compilation, step, memory.

    python -m benchmarks.gradients [--repeats 9] [--only mlp lstm] [--small]

Both are measured in one run, turn by turn; each figure is the ratio fbp / jax of the medians,
with the quartiles of the ratios of pairs. Staging is tracing the gradient to a jaxpr, of a loss
that was never traced before; compilation begins with lowering that jaxpr; memory is
`memory_analysis().temp_size_in_bytes`. A figure above its goal is bold.
"""

import contextlib
import dataclasses
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core
import numpy as np
import tyro

import fbp
from benchmarks.program import Program
from benchmarks.programs import PROGRAMS, program

VALUE_AND_GRAD = {"fbp": fbp.value_and_grad, "jax": jax.value_and_grad}
MEASURES = ("staging", "equations", "compile", "step", "memory")

MEAN_GOALS = {"staging": 0.5, "compile": 1.0, "step": 0.97, "memory": 0.95}
CASE_GOALS = {"step": 1.05, "memory": 1.05}
SCAN_GOALS = {"step": 1.05, "memory": 0.7}

Figures = dict[str, dict[str, list[float]]]


@dataclasses.dataclass
class Arguments:
    """How often to measure, what, and whether in a size that only shows that all works."""

    repeats: int = 9
    only: tuple[str, ...] = tuple(PROGRAMS)
    small: bool = False


@contextlib.contextmanager
def no_garbage_collector() -> Iterator[None]:
    """Collect before, not within."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def timed(fun: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the result; the garbage collector waits, as it does in timeit."""
    with no_garbage_collector():
        start = time.perf_counter()
        result = fun()
        return time.perf_counter() - start, result


def measure(subject: Program, repeats: int) -> Figures:
    """Seconds, bytes and equations of either side, by measure and repetition.

    Raises what the differentiation raises, MissingRule for one, and ArithmeticError if the two
    gradients differ by more than the program allows.
    """
    figures: Figures = {m: {side: [] for side in VALUE_AND_GRAD} for m in MEASURES}
    inputs = (subject.params, *subject.data)
    for gradient in _gradients(subject, 0).values():
        gradient.trace(*inputs)
    compiled = {}
    for repetition in range(repeats):
        for side, gradient in _gradients(subject, repetition).items():
            seconds, traced = timed(lambda g=gradient: g.trace(*inputs))
            figures["staging"][side].append(seconds)
            figures["equations"][side].append(count(traced.jaxpr.jaxpr))
            seconds, compiled[side] = timed(lambda t=traced: t.lower().compile())
            figures["compile"][side].append(seconds)
            memory = compiled[side].memory_analysis()
            figures["memory"][side].append(memory.temp_size_in_bytes)
    for repetition in range(3 * repeats):
        for side, gradient in _gradients(subject, repetition).items():
            seconds, _ = timed(lambda g=gradient: g.trace(*inputs))
            figures["staging"][side].append(seconds)
    check_same(compiled, inputs, subject.ulps)
    calls = _calls(compiled["jax"], inputs)
    for repetition in range(3 * repeats):
        for side, step in _in_turn(compiled, repetition).items():
            seconds, _ = timed(lambda s=step: [jax.block_until_ready(s(*inputs)) for _ in calls])
            figures["step"][side].append(seconds / len(calls))
    return figures


def _gradients(subject: Program, turn: int) -> dict[str, Any]:
    losses = _in_turn(subject.losses(), turn)
    return {side: jax.jit(VALUE_AND_GRAD[side](loss)) for side, loss in losses.items()}


def _in_turn(sides: dict[str, Any], turn: int) -> dict[str, Any]:
    """One first, then the other."""
    return dict(sides.items() if turn % 2 else reversed(sides.items()))


def count(jaxpr: Any) -> int:
    """Equations, those of inner programs included, as often as they are called."""
    inner = jax.extend.core.jaxprs_in_params
    return sum(1 + sum(count(j) for j in inner(eqn.params)) for eqn in jaxpr.eqns)


def _calls(step: Callable, inputs: tuple) -> range:
    """As many calls as take about 50 ms, so that the clock's grain does not matter."""
    seconds = min(timed(lambda: jax.block_until_ready(step(*inputs)))[0] for _ in range(3))
    return range(max(1, int(0.05 / seconds)))


def check_same(sides: dict[str, Callable], inputs: tuple, ulps: int) -> None:
    """All sides compute the same value and gradient, or ArithmeticError."""
    expected, *others = (jax.tree.leaves(step(*inputs)) for step in sides.values())
    for result in others:
        for a, b in zip(result, expected, strict=True):
            distance = np.max(np.abs(a - b)) / np.spacing(np.max(np.abs(b)))
            if not distance <= ulps:
                raise ArithmeticError(
                    f"the gradients differ by {distance:.0f} ULPs, {ulps} allowed"
                )


# The table


def ratio(fbp: list[float], jax: list[float]) -> float:
    """Of the medians."""
    return statistics.median(fbp) / max(statistics.median(jax), 1e-12)


def cell(sides: dict[str, list[float]], goal: float) -> str:
    """The ratio and its quartiles, bold where it misses the goal; no quartiles where all agree."""
    value = ratio(**sides)
    pairs = [a / max(b, 1e-12) for a, b in zip(*sides.values(), strict=True)]
    shown = f"**{value:.2f}**" if round(value, 2) > goal else f"{value:.2f}"
    if len(set(pairs)) == 1:
        return shown
    low, _, high = statistics.quantiles(pairs, n=4)
    return f"{shown} [{low:.2f}, {high:.2f}]"


def row(name: str, figures: Figures, scans: bool) -> str:
    """One program's line; the last column is what jax.grad needs."""
    goals = SCAN_GOALS if scans else CASE_GOALS
    cells = [cell(figures[m], goals.get(m, math.inf)) for m in MEASURES]
    step, memory = (statistics.median(figures[m]["jax"]) for m in ("step", "memory"))
    return line(name, *cells, f"{1e3 * step:.1f} ms, {memory / 1e6:.2f} MB")


def mean_row(measured: list[Figures]) -> str:
    """The geometric means, bold where they miss their goals."""
    cells = []
    for m in MEASURES:
        mean = statistics.geometric_mean([max(ratio(**f[m]), 1e-12) for f in measured])
        missed = round(mean, 2) > MEAN_GOALS.get(m, math.inf)
        cells.append(f"**{mean:.2f}**" if missed else f"{mean:.2f}")
    return line("geometric mean", *cells, "")


def line(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table of ratios, in Markdown."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}; ratios fbp / jax.grad\n")
    print(line("", *MEASURES, "jax.grad: step, memory"))
    print(line(*("---" for _ in range(len(MEASURES) + 2))))
    measured = []
    for name in arguments.only:
        subject = program(name, arguments.small)
        try:
            measured.append(measure(subject, arguments.repeats))
            print(row(name, measured[-1], subject.scans), flush=True)
        except (NotImplementedError, ValueError) as error:  # MissingRule is one
            print(line(name, f"raises {type(error).__name__}: {str(error)[:60]}..."))
    if measured:
        print(mean_row(measured))
    print(line("goal", *(f"{MEAN_GOALS[m]:.2f}" if m in MEAN_GOALS else "" for m in MEASURES), ""))


if __name__ == "__main__":
    main()
