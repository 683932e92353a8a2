"""What a page carries: every number of a recording, as JSON, and how a number is written."""

import base64
import math
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import jax
import numpy as np

from fbp import __version__
from fbp.autodiff import grad
from fbp.autodiff.recording import TapeEntry
from fbp.errors import InputError
from fbp.show.lesson import OUTPUTS, Lesson
from fbp.show.record import LessonRecording, SlowStep

MOST_BYTES = 1_000_000  # of a page: more takes seconds to open on a phone
CURVE = np.linspace(-4, 4, 65, dtype=np.float32)  # beyond 4 the squashing functions are flat
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MINUS = "\N{MINUS SIGN}"


def payload(recording: LessonRecording) -> dict[str, Any]:
    """Return what the page's script reads."""
    lesson, film = recording.lesson, recording.film
    return {
        "name": lesson.name,
        "seed": recording.seed,
        "rate": _number(np.float32(lesson.rate)),
        "made": f"fbp {__version__}, JAX {jax.__version__}",
        "widths": list(lesson.widths),
        "names": neuron_names(lesson),
        "output": lesson.output,
        "activation": lesson.activation,
        "notes": list(lesson.notes),
        "curves": _curves(lesson),
        "steps": [_slow(step) for step in recording.slow],
        "film": {
            "steps": film.steps.tolist(),
            "weights": [{k: _nested(v) for k, v in layer.items()} for layer in film.weights],
            "losses": _nested(film.losses),
            "right": None if film.right is None else _nested(film.right),
            "maps": None if film.maps is None else _bytes(film.maps),
            "plane": film.plane,
            "diverged": film.diverged,
            "points": _nested(lesson.x[:200]) if film.maps is not None else None,
            "targets": _nested(lesson.t[:200, -1]) if film.maps is not None else None,
        },
        "valley": _valley(recording),
        "largest_weight": _largest(
            [layer["w"] for layer in film.weights]
            + [layer.w for step in recording.slow for layer in step.layers]
        ),
        "largest_pulse": _largest(
            array
            for step in recording.slow
            for layer in step.layers
            for array in (layer.carried, layer.message)
        ),
    }


def neuron_names(lesson: Lesson) -> list[list[str]]:
    """Name every neuron: inputs and outputs by the data, hidden ones h1, h2, ... or h1.2."""
    hidden = lesson.widths[1:-1]
    deep = len(hidden) > 1
    return [
        list(lesson.inputs),
        *([f"h{depth + 1}.{i + 1}" if deep else f"h{i + 1}" for i in range(width)]
          for depth, width in enumerate(hidden)),
        list(lesson.outputs),
    ]  # fmt: skip


def shown(x: Any) -> str:
    """Write a number with three significant digits, as the page's script does.

    >>> shown(-0.10604), shown(1234.5), shown(2.04e-7), shown(0.0), shown(float("inf"))
    ('−0.106', '1235', '2.04·10⁻⁷', '0', '∞')
    """
    x = float(x)
    if math.isnan(x):
        return "not a number"
    sign = MINUS if x < 0 else ""
    size = abs(x)
    if size == 0:
        return "0"
    if math.isinf(size):
        return f"{sign}∞"
    power = math.floor(math.log10(size))
    if -3 <= power < 5:
        return sign + _fixed(size, max(0, 2 - power))
    mantissa = _fixed(size / 10.0**power, 2)
    return f"{sign}{mantissa}·10{str(power).translate(SUPERSCRIPTS)}"


def at(data: Any, path: str) -> Any:
    """Return what a path such as `steps.0.layers.1.a.2` leads to.

    >>> at({"steps": [{"loss": 0.5}]}, "steps.0.loss")
    0.5
    """
    for part in path.split("."):
        is_list = isinstance(data, list)
        data = data[(-1 if part == "@last" else int(part)) if is_list else part]
    return data


def check_size(page: str, recording: LessonRecording) -> None:
    """Raise if a page would be too large to open."""
    if (size := len(page.encode())) > MOST_BYTES:
        film = recording.film
        raise InputError(
            f"the page would have {size:,} bytes, {len(film.steps)} frames of "
            f"{sum(layer['w'][0].size for layer in film.weights)} weights, and may have "
            f"{MOST_BYTES:,}: give a smaller network"
        )


def _fixed(size: float, decimals: int) -> str:
    unit = Decimal(1).scaleb(-decimals)
    return str(Decimal(size).quantize(unit, rounding=ROUND_HALF_UP))


def _slow(step: SlowStep) -> dict[str, Any]:
    names = ("w", "b", "x", "carried", "a", "h", "slope", "d_h", "d_a", "message", "d_w", "d_b")
    return {
        "example": step.example,
        "t": _nested(step.t),
        "loss": _nested(step.loss),
        "loss_next": _nested(step.loss_next),
        "layers": [
            {name: _nested(getattr(layer, name)) for name in (*names, "w_next", "b_next")}
            for layer in step.layers
        ],
        "tape": [_entry(entry) for entry in step.entries],
    }


def _entry(entry: TapeEntry) -> dict[str, Any]:
    return {
        "primitive": entry.primitive,
        "scope": entry.scope,
        "source": entry.source.rsplit("/", 1)[-1],
        "out": _nested(np.asarray(entry.outs[0])),
        "out_ct": _nested(None if entry.out_cts[0] is None else np.asarray(entry.out_cts[0])),
        "in_cts": [_nested(None if ct is None else np.asarray(ct)) for ct in entry.in_cts],
    }


def _curves(lesson: Lesson) -> dict[str, Any]:
    """Return the squashing functions of hidden and output neurons, and their slopes."""
    curves = {"x": _nested(CURVE)}
    functions = {"hidden": getattr(jax.nn, lesson.activation)}
    if lesson.output != "softmax":
        functions["last"] = OUTPUTS[lesson.output]
    for name, function in functions.items():
        curves[name] = _nested(np.asarray(jax.vmap(function)(CURVE)))
        curves[f"{name}_slope"] = _nested(np.asarray(jax.vmap(grad(function))(CURVE)))
    return curves


def _valley(recording: LessonRecording) -> dict[str, Any]:
    valley = recording.valley
    return {
        "ends": [list(name) for name in valley.names],
        "steps": len(valley.walks[0].losses) - 1,
        "curvature": _number(np.float32(valley.curvature)),
        "axes": [_nested(axis[[0, -1]]) for axis in valley.axes],
        "surface": _bytes(np.log(np.maximum(valley.surface, 1e-12))[None]),
        "walks": [
            {
                "rate": _number(np.float32(walk.rate)),
                "outcome": walk.outcome,
                "points": _nested(walk.points),
                "losses": _nested(walk.losses),
                "slopes": _nested(walk.slopes),
            }
            for walk in valley.walks
        ],
    }


def _nested(array: Any) -> Any:
    """Return lists of numbers with the nine digits that tell every float32 from its neighbours."""
    if array is None:
        return None
    if np.ndim(array) == 0:
        return _number(array)
    return [_nested(part) for part in array]


def _number(x: Any) -> float | str:
    """Return a float that reads back as the same float32; JSON has no NaN and no infinity."""
    return float(f"{float(x):.9g}") if np.isfinite(x) else str(float(x))


def _largest(arrays: Iterable[Any]) -> float:
    """Return the largest finite size. All frames are drawn to one scale, or constant weights would
    seem to breathe."""
    sizes = [np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in arrays]
    return max(float(max(sizes)), 1e-12)


def _bytes(frames: np.ndarray) -> dict[str, Any]:
    """Pack values to draw with, in 256 steps from the least to the largest of all."""
    finite = frames[np.isfinite(frames)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    span = max(high - low, 1e-12)
    steps = np.nan_to_num(np.clip((frames - low) / span, 0, 1), nan=1.0)
    levels = np.round(255 * steps).astype(np.uint8)
    return {
        "low": low, "high": high, "side": frames.shape[-1],
        "data": base64.b64encode(levels.tobytes()).decode("ascii"),
    }  # fmt: skip
