"""Clients of JAX's transforms: what they cost by fbp, and by JAX, under one `fbp.override_jax`.

    python -m benchmarks.clients [--repeats 5] [--only optax_hvp ...] [--no-compile]

Each program (benchmarks/clients) calls its library, and the library calls jax.grad or its kin. No
line of either is changed. Ratios fbp / JAX: staging (medians of tracing the whole program, in
seconds of this process), and of the compiled programs flops and bytes as XLA counts them, a loop's
body once, and temporary memory. Each row goes to stderr as it is measured; the table is worst
first. Above 1.05, the goal for flops and memory, is bold, and the lines below say what the programs
say of it.
"""

import dataclasses
import statistics
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np
import tyro

import fbp
from benchmarks import reasons
from benchmarks.clients import CLIENTS, Client
from benchmarks.gradients import line, traced
from fbp.testing import ulps

MEASURES = ("staging", "flops", "bytes", "memory")
GOAL = 1.05
SIDES: dict[str, Callable[[], AbstractContextManager]] = {
    "jax": nullcontext,
    "fbp": fbp.override_jax,
}


@dataclasses.dataclass
class Arguments:
    """How often to trace, and which clients; without compilation only staging is measured."""

    repeats: int = 5
    only: tuple[str, ...] = tuple(CLIENTS)
    compile: bool = True


@dataclasses.dataclass(frozen=True)
class Costs:
    """What one side needs: figures by measure, the instructions of its program, its results."""

    figures: dict[str, float]
    instructions: Counter[str]
    results: list[Any]


def costs(client: Client, side: str, repeats: int, with_compilation: bool) -> Costs:
    """Trace and compile a client's program by fbp or by JAX."""
    seconds = []
    with SIDES[side](), jax.enable_x64(client.in_double):
        for _ in range(repeats + 1):
            fun, args = client.make()
            spent, program = traced(jax.jit(lambda *args, fun=fun: fun(*args)), args)
            seconds.append(spent)
        figures = {"staging": statistics.median(seconds[1:])}  # the first one traces the library
        if not with_compilation:
            return Costs(figures, Counter(), [])
        compiled = program.lower().compile()
        results = jax.tree.leaves(compiled(*args))
    analysis = compiled.cost_analysis() or {}
    figures |= {
        "flops": analysis.get("flops", 0.0),
        "bytes": analysis.get("bytes accessed", 0.0),
        "memory": compiled.memory_analysis().temp_size_in_bytes,
    }
    return Costs(figures, reasons.instructions(compiled), results)


def ratios(by_fbp: Costs, by_jax: Costs) -> dict[str, float]:
    """Return fbp / JAX by measure; 1 where neither needs anything."""
    return {
        m: (x / by_jax.figures[m] if by_jax.figures[m] else float("inf")) if x else 1.0
        for m, x in by_fbp.figures.items()
    }


def distance(by_fbp: Costs, by_jax: Costs) -> float:
    """Return how far the floating results lie apart, in ULPs."""
    pairs = zip(by_fbp.results, by_jax.results, strict=True)
    apart = [float(ulps(a, b)) for a, b in pairs if jax.numpy.issubdtype(b.dtype, np.inexact)]
    return max(apart, default=0.0)


def row(name: str, figures: dict[str, float], apart: float) -> str:
    """One client's line."""
    cells = [f"**{x:.2f}**" if round(x, 2) > GOAL else f"{x:.2f}" for x in figures.values()]
    return line(name, *cells, f"{apart:.0f}")


def measure(name: str, arguments: Arguments) -> tuple[dict[str, float] | None, float, list[str]]:
    """Measure a client: its ratios, None if it does not run, its ULPs, and what is to be said."""
    client = CLIENTS[name]
    if not client.is_installed:
        return None, 0.0, [f"- {name}: {client.module} is not installed"]
    try:
        with warnings.catch_warnings(action="ignore"):  # the libraries' own
            sides = [costs(client, s, arguments.repeats, arguments.compile) for s in ("fbp", "jax")]
    except Exception as error:  # whatever a library raises
        return None, 0.0, [f"- {name}: {type(error).__name__}: {str(error).splitlines()[0][:100]}"]
    figures, apart = ratios(*sides), distance(*sides)
    notes = []
    if any(round(figures.get(m, 0), 2) > GOAL for m in ("flops", "memory")):
        notes.append(f"- {name}: {reasons.of_compiled(*(s.instructions for s in sides))}")
    if apart > client.ulps:
        notes.append(f"- {name}: the results differ by {apart:.0f} ULPs")
    return figures, apart, notes


def main() -> None:
    """Measure the clients that are installed, and print the table, worst first."""
    arguments = tyro.cli(Arguments, description=__doc__)
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}; ratios fbp / JAX\n")
    measured: dict[str, tuple[dict[str, float], float]] = {}
    notes = []
    for name in arguments.only:
        figures, apart, more = measure(name, arguments)
        notes += more
        if figures is not None:
            measured[name] = figures, apart
            print(row(name, figures, apart), file=sys.stderr, flush=True)
        jax.clear_caches()
    shown = MEASURES if arguments.compile else MEASURES[:1]
    print(line("", *shown, "ULPs"), line(*("---" for _ in range(len(shown) + 2))), sep="\n")
    worst_first = sorted(measured, key=lambda name: -max(measured[name][0].values()))
    print(*(row(name, *measured[name]) for name in worst_first), sep="\n")
    means = [
        statistics.geometric_mean(max(f[m], 1e-3) for f, _ in measured.values()) for m in shown
    ]
    print(line("geometric mean", *(f"{mean:.2f}" for mean in means), ""))
    print("", *notes, sep="\n")


if __name__ == "__main__":
    main()
