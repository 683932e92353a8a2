"""All that is timed, and a size of each that takes no time."""

from collections.abc import Callable

from benchmarks.invariants import (
    chosen_once,
    implicit_euler,
    masked_steps,
    nested_scans,
    spectral,
    weight_norm,
)
from benchmarks.networks import cnn, lstm, mlp, repeated, transformer
from benchmarks.numerics import bundle, kmeans, mixture, ode, svd, triangular, while_loop
from benchmarks.program import Program
from benchmarks.spreads import attention, layer_norm, softmax, temperature, unet_block

SPEED = (
    *(mlp, cnn, transformer, lstm, mixture, bundle, kmeans, ode),
    *(while_loop, svd, triangular, repeated),
)
MEMORY = (
    *(implicit_euler, spectral, masked_steps, weight_norm, chosen_once, nested_scans),
    *(softmax, temperature, attention, layer_norm, unet_block),
)

PROGRAMS: dict[str, Callable[..., Program]] = {make.__name__: make for make in (*SPEED, *MEMORY)}

SMALL: dict[str, dict[str, int]] = {
    "mlp": {"layers": 3, "width": 8, "batch": 4},
    "cnn": {"size": 8, "channels": 4, "batch": 2},
    "transformer": {"blocks": 1, "width": 8, "heads": 2, "tokens": 4, "batch": 2},
    "lstm": {"steps": 5, "width": 4, "batch": 2},
    "mixture": {"points": 20, "components": 3, "dimensions": 4},
    "bundle": {"cameras": 3, "points": 10, "observations": 20},
    "kmeans": {"points": 50, "clusters": 3, "dimensions": 2},
    "ode": {"steps": 5, "width": 4, "batch": 2},
    "while_loop": {"bound": 100, "width": 4, "batch": 2},
    "svd": {"rows": 5, "columns": 3, "batch": 2},
    "triangular": {"size": 4, "columns": 2, "batch": 2},
    "repeated": {"repeats": 3, "width": 4, "batch": 2},
    "implicit_euler": {"steps": 3, "size": 4},
    "spectral": {"steps": 3, "size": 8, "batch": 2},
    "masked_steps": {"steps": 3, "size": 8, "batch": 2},
    "weight_norm": {"steps": 3, "width": 4, "batch": 2},
    "chosen_once": {"steps": 3, "width": 4, "batch": 2},
    "nested_scans": {"steps": 3, "inner": 2, "width": 4, "batch": 2},
    "softmax": {"rows": 4, "columns": 3},
    "temperature": {"rows": 4, "columns": 3},
    "attention": {"tokens": 4, "width": 3},
    "layer_norm": {"rows": 4, "columns": 3},
    "unet_block": {"size": 4, "channels": 4, "batch": 2, "groups": 2},
}


def program(name: str, small: bool = False) -> Program:
    """Return the program of this name, in its full or its small size."""
    return PROGRAMS[name](**(SMALL[name] if small else {}))
