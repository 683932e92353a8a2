"""What names the origin of a NaN: fbp.verify.trace_nonfinite, jax_debug_nans, checkify; its cost.

    python -m benchmarks.nonfinite [--repeats 21]

Each trap of tests/support/traps.py is given to the three, as its compiled gradient. `line` says
that the line of the origin is named, `other` that another line or none is, `nothing` that nothing
is said, `no gradient` that JAX has none. The cost is that of the watched pass over that of the
step it watches, for an MLP of a million parameters and a batch of 128: the ratio of the medians of
interleaved runs.
"""

import dataclasses
import importlib
import itertools
import statistics
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from jax.experimental import checkify

import fbp
from benchmarks.gradients import line, timed
from benchmarks.program import normal, weight
from fbp.autodiff import graph as g
from fbp.verify import trace_nonfinite
from fbp.verify.flags import FLAGS, flags_of
from fbp.verify.observe import observe

SIZES = (784, 700, 600, 50, 10)


@dataclasses.dataclass
class Arguments:
    """How often to time a step."""

    repeats: int = 21


def with_fbp(trap: Any) -> str:
    report = trace_nonfinite(trap.fun, trap.bad)
    if report.ok:
        return "nothing"
    return "line" if (report.findings[0].source or "").startswith(f"{trap.line}:") else "other"


def with_debug_nans(trap: Any) -> str:
    with jax.debug_nans(True):
        return _raised(trap, lambda: jax.jit(jax.value_and_grad(trap.fun))(trap.bad))


def with_checkify(trap: Any) -> str:
    def run() -> None:
        checks = checkify.all_checks
        error, _ = jax.jit(checkify.checkify(jax.value_and_grad(trap.fun), checks))(trap.bad)
        error.throw()

    return _raised(trap, run)


def _raised(trap: Any, run: Callable[[], Any]) -> str:
    """Whether what is raised names the line in its message, its causes or its tracebacks."""
    try:
        jax.block_until_ready(run())
    except Exception as error:
        if "Reverse-mode differentiation does not work" in str(error):
            return "no gradient"
        file, number = trap.line.rsplit(":", 1)
        text = "".join(traceback.format_exception(error))
        named = f'{file}", line {number},' in text or f"{trap.line}:" in text
        return "line" if named else "other"
    return "nothing"


CONTENDERS = {"fbp": with_fbp, "jax_debug_nans": with_debug_nans, "checkify": with_checkify}


def compare(traps: list[Any]) -> None:
    """Print the table of traps."""
    print(line("trap", *CONTENDERS))
    print(line("---", *("---" for _ in CONTENDERS)))
    counts: Counter = Counter()
    for trap in traps:
        said = {name: contender(trap) for name, contender in CONTENDERS.items()}
        counts.update((name, word) for name, word in said.items())
        print(line(trap.name, *said.values()), flush=True)
    totals = (f"{counts[name, 'line']} of {len(traps)}" for name in CONTENDERS)
    print(line("line named", *totals), flush=True)


def mlp(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"][None])
    logits = x @ params[-1]["w"] + params[-1]["b"][None]
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(logits) * y, axis=-1))


def cost(repeats: int) -> str:
    """The cost of the watched pass, in words."""
    params = [
        {"w": weight(i, m, n), "b": jnp.zeros(n)}
        for i, (m, n) in enumerate(itertools.pairwise(SIZES))
    ]
    args = (params, normal(8, 128, SIZES[0]), jax.nn.one_hot(jnp.arange(128) % 10, 10))
    step = fbp.value_and_grad(mlp)
    graph, _ = g.stage(step, *args)

    @jax.jit
    def watched(*args: Any) -> Any:
        outs, records = observe(graph, jax.tree.leaves(args), FLAGS)
        return flags_of(jax.tree.leaves(args)), flags_of(outs), records

    runs = {"step": jax.jit(step), "watched": watched}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name in runs if turn % 2 else reversed(runs):
            taken = timed(lambda f=runs[name]: jax.block_until_ready(f(*args)))[0]
            seconds[name] += [taken] if turn else []
    plain, traced = (statistics.median(seconds[name]) for name in runs)
    size = sum(x.size for x in jax.tree.leaves(params))
    return (
        f"MLP of {size:,} parameters: step {1e3 * plain:.1f} ms, watched {1e3 * traced:.1f} ms, "
        f"ratio {traced / plain:.2f}"
    )


def main() -> None:
    """Print the table and the cost, in Markdown."""
    arguments = tyro.cli(Arguments, description=__doc__)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    traps = importlib.import_module("tests.support.traps").TRAPS
    print(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}\n")
    print(cost(arguments.repeats), flush=True)
    print()
    compare(traps)


if __name__ == "__main__":
    main()
