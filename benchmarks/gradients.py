"""fbp.value_and_grad beside jax.value_and_grad: staging, equations, compilation, step, memory.

    python -m benchmarks.gradients [--repeats 9] [--only mlp lstm] [--small]

Both are measured in one run, turn by turn; each figure is the ratio fbp / jax of the medians,
with the quartiles of the ratios of pairs. Staging is tracing the gradient to a jaxpr, of a loss
that was never traced before, in seconds of this process; compilation begins with lowering that
jaxpr; memory is `memory_analysis().temp_size_in_bytes`. A figure above its goal is bold, and below
the table stands what the two programs say of it.
"""

import contextlib
import dataclasses
import gc
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.extend.core
import numpy as np
import tyro

import fbp
from benchmarks import reasons
from benchmarks.program import Program
from benchmarks.programs import MEMORY, PROGRAMS, SPEED, program

VALUE_AND_GRAD = {"fbp": fbp.value_and_grad, "jax": jax.value_and_grad}
MEASURES = ("staging", "equations", "compile", "step", "memory")

MEAN_GOALS = {"staging": 0.5, "compile": 1.0, "step": 0.97, "memory": 0.95}
CASE_GOALS = {"staging": 0.5, "compile": 1.0, "step": 1.05, "memory": 1.05}
SCAN_GOALS = CASE_GOALS | {"memory": 0.7}

Figures = dict[str, dict[str, list[float]]]


class Measured(NamedTuple):
    """Of either side: the figures by measure and repetition, the seconds to trace the loss
    alone, and the compiled program's instructions."""

    figures: Figures
    loss: dict[str, list[float]]
    instructions: dict[str, Counter[str]]


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


def timed(
    fun: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """Seconds, and the result; the garbage collector waits, as it does in timeit."""
    with no_garbage_collector():
        start = clock()
        result = fun()
        return clock() - start, result


def traced(fun: Any, inputs: tuple) -> tuple[float, Any]:
    """Tracing is one thread's work: what others do on the machine does not count."""
    return timed(lambda: fun.trace(*inputs), time.process_time)


def measure(subject: Program, repeats: int) -> Measured:
    """Seconds, bytes and equations of either side, by measure and repetition.

    Raises what the differentiation raises, MissingRule for one, and ArithmeticError if the two
    gradients differ by more than the program allows.
    """
    figures: Figures = {m: {side: [] for side in VALUE_AND_GRAD} for m in MEASURES}
    losses: dict[str, list[float]] = {side: [] for side in VALUE_AND_GRAD}
    inputs = (subject.params, *subject.data)
    for gradient in _gradients(subject, 0).values():
        gradient.trace(*inputs)
    compiled = {}
    for repetition in range(repeats):
        for side, gradient in _gradients(subject, repetition).items():
            seconds, staged = traced(gradient, inputs)
            figures["staging"][side].append(seconds)
            figures["equations"][side].append(count(staged.jaxpr.jaxpr))
            seconds, compiled[side] = timed(lambda s=staged: s.lower().compile())
            figures["compile"][side].append(seconds)
            memory = compiled[side].memory_analysis()
            figures["memory"][side].append(memory.temp_size_in_bytes)
    for repetition in range(3 * repeats):
        for side, gradient in _gradients(subject, repetition).items():
            figures["staging"][side].append(traced(gradient, inputs)[0])
        for side, loss in subject.losses().items():
            losses[side].append(traced(jax.jit(loss), inputs)[0])
    check_same(compiled, inputs, subject.ulps)
    calls = _calls(compiled["jax"], inputs)
    for repetition in range(3 * repeats):
        for side, step in _in_turn(compiled, repetition).items():
            seconds, _ = timed(lambda s=step: [jax.block_until_ready(s(*inputs)) for _ in calls])
            figures["step"][side].append(seconds / len(calls))
    made = {side: reasons.instructions(program) for side, program in compiled.items()}
    return Measured(figures, losses, made)


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


def case_goals(scans: bool) -> dict[str, float]:
    """What a program has to reach."""
    return SCAN_GOALS if scans else CASE_GOALS


def row(name: str, figures: Figures, scans: bool) -> str:
    """One program's line; the last column is what jax.grad needs."""
    goals = case_goals(scans)
    cells = [cell(figures[m], goals.get(m, math.inf)) for m in MEASURES]
    step, memory = (statistics.median(figures[m]["jax"]) for m in ("step", "memory"))
    return line(name, *cells, f"{1e3 * step:.1f} ms, {memory / 1e6:.2f} MB")


def explanations(name: str, subject: Program, measured: Measured) -> list[str]:
    """One line for each goal that a program misses: what the programs of both sides say of it."""
    figures, made = measured.figures, measured.instructions
    lines = []
    for m, goal in case_goals(subject.scans).items():
        if round(ratio(**figures[m]), 2) <= goal:
            continue
        if m == "staging":
            counts = {side: statistics.median(n) for side, n in figures["equations"].items()}
            seconds = statistics.median(measured.loss["fbp"])
            why = reasons.of_staged(counts, seconds, statistics.median(figures[m]["jax"]))
        else:
            why = reasons.of_compiled(made["fbp"], made["jax"])
        other = " (JAX's program is another one)" if subject.for_jax else ""
        lines.append(f"- {name}, {m}: {why}{other}")
    return lines


def mean_row(measured: list[Figures], name: str = "geometric mean") -> str:
    """The geometric means, bold where they miss their goals."""
    cells = []
    for m in MEASURES:
        mean = statistics.geometric_mean([max(ratio(**f[m]), 1e-12) for f in measured])
        missed = round(mean, 2) > MEAN_GOALS.get(m, math.inf)
        cells.append(f"**{mean:.2f}**" if missed else f"{mean:.2f}")
    return line(name, *cells, "")


def line(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table of ratios, in Markdown."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}; ratios fbp / jax.grad\n")
    print(line("", *MEASURES, "jax.grad: step, memory"))
    print(line(*("---" for _ in range(len(MEASURES) + 2))))
    measured: dict[str, Figures] = {}
    missed: list[str] = []
    for name in arguments.only:
        subject = program(name, arguments.small)
        try:
            one = measure(subject, arguments.repeats)
            measured[name] = one.figures
            missed += explanations(name, subject, one)
            print(row(name, one.figures, subject.scans), flush=True)
        except (NotImplementedError, ValueError) as error:  # MissingRule is one
            print(line(name, f"raises {type(error).__name__}: {str(error)[:60]}..."))
    for title, group in {"geometric mean": SPEED, "of those for memory": MEMORY}.items():
        figures = [measured[make.__name__] for make in group if make.__name__ in measured]
        if figures:
            print(mean_row(figures, title))
    print(line("goal", *(f"{MEAN_GOALS[m]:.2f}" if m in MEAN_GOALS else "" for m in MEASURES), ""))
    print("", *missed, sep="\n")


if __name__ == "__main__":
    main()
