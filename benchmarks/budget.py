"""A gradient within a budget of memory, beside checkpoints written by hand.

    python -m benchmarks.budget [--networks N ...]

For each network five budgets, from all that it takes to the least that fbp finds: measured bytes of
temporary memory (XLA's own count of the compiled gradient), and work (operations of the staged
gradient, trips times body) over that of the plain gradient. Beside it the least work of the ways by
hand (`budget_networks.py`) that need no more memory, made with `jax.grad`.
"""

import argparse

import jax
import numpy as np

import fbp
from benchmarks.budget_networks import NETWORKS
from fbp.autodiff.graph import stage
from fbp.autodiff.memory.estimate import work

BUDGETS = 5
EDGE = 1.02  # the largest budget holds the plain gradient with a little room


def temporary(gradient, args) -> int:
    """Compile a gradient, and return the bytes of temporary memory that it needs."""
    memory = jax.jit(gradient).lower(*args).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def operations(gradient, args) -> float:
    """Count the operations of a gradient."""
    return work(stage(gradient, *args)[0])


def least(fun, args) -> int:
    """Return the least memory that fbp finds: what it refuses a budget of one byte with."""
    try:
        fbp.grad(fun, memory=1)(*args)
    except fbp.InputError as error:
        return int(str(error).split("was found is ")[1].split(" ")[0].replace(",", ""))
    return 1


def compare(name: str) -> list[tuple]:
    """Return a row for each budget: budget, bytes, work, and the work of the best way by hand."""
    functions, args = NETWORKS[name]()
    plain = functions["plain"]
    by_hand = {
        way: (temporary(jax.grad(f), args), operations(jax.grad(f), args))
        for way, f in functions.items()
    }
    most, base = EDGE * temporary(fbp.grad(plain), args), operations(fbp.grad(plain), args)
    rows = []
    for budget in np.geomspace(most, least(plain, args), BUDGETS).astype(int).tolist():
        gradient = fbp.grad(plain, memory=budget + 1)
        used, done = temporary(gradient, args), operations(gradient, args)
        fitting = [(w, way) for way, (m, w) in by_hand.items() if m <= max(used, budget)]
        best = min(fitting, default=(float("nan"), "none fits"))
        rows.append((budget, used, done / base, best[0] / base, best[1]))
    return rows


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    for name in parser.parse_args().networks:
        print(f"\n{name}\n{'budget':>10} {'measured':>10} {'work':>6} {'by hand':>8}  way by hand")
        for budget, used, done, best, way in compare(name):
            within = "" if used <= budget + 1 else "  OVER"
            print(f"{budget:10,} {used:10,} {done:6.2f} {best:8.2f}  {way}{within}", flush=True)


if __name__ == "__main__":
    main()
