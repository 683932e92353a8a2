"""Why a figure misses its goal, as far as it can be read off both sides' programs."""

import re
from collections import Counter
from typing import Any

INSTRUCTION = re.compile(r"^ .* = (?:\(.*?\)|\S+) ([a-z][a-z-]*)\(", re.MULTILINE)


def instructions(compiled: Any) -> Counter[str]:
    """How often each operation stands in a compiled program, its fusions included."""
    return Counter(INSTRUCTION.findall(compiled.as_text()))


def of_compiled(fbp: Counter[str], jax: Counter[str]) -> str:
    """List what the compiled program of fbp holds that JAX's does not."""
    more = [f"{count} more {name}" for name, count in (fbp - jax).most_common(3)]
    if not more:
        return f"no HLO instruction that JAX's {jax.total()} do not have: chance, or their order"
    return f"{fbp.total()} HLO instructions beside {jax.total()}: {', '.join(more)}"


def of_staged(equations: dict[str, float], loss: float, jax: float) -> str:
    """How much of JAX's staging it takes to trace the loss alone, which nobody can save."""
    counts = "{fbp:.0f} equations beside {jax:.0f}".format(**equations)
    return f"to trace the loss alone takes {loss / jax:.2f} of jax.grad's staging; {counts}"
