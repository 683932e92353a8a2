"""What was measured on a device, as Markdown."""

import statistics
from collections.abc import Sequence

from benchmarks.accelerator.device import Device
from benchmarks.accelerator.rules import Family
from benchmarks.accelerator.steps import Step
from benchmarks.gradients import MEASURES, line


def row(*cells: str) -> str:
    """Format a row of a table."""
    return line(*cells)


def _head(title: str, *columns: str) -> str:
    return "\n".join(["", f"## {title}", "", row(*columns), row(*("---" for _ in columns))])


RULES = _head("Rules", "family", "dtype", "cases", "needs of its tolerance", "at", "could not run")
GRADIENTS = _head("Gradients, fbp / jax.grad", "", *MEASURES)
STEPS = _head(
    *("Large steps", "", "fbp, ms", "fbp / jax.grad", "TFLOP/s", "of the peak", "of products here"),
    "ULPs from jax.grad",
)


def device(described: Device) -> str:
    """Describe the device."""
    memory = "" if described.memory is None else f", {described.memory / 2**30:.0f} GiB"
    versions = ", ".join(f"{name} {version}" for name, version in described.versions.items())
    rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in described.products.items())
    return (
        f"{described.count} x {described.kind} ({described.platform}{memory}); {versions}\n\n"
        f"Matrix products reach, in TFLOP/s: {rates}"
    )


def rules_row(name: str, dtype: str, family: Family) -> str:
    """Format a family's outcome."""
    failed = f"{len(family.failed)}: {family.failed[0]}" if family.failed else ""
    multiple = f"{family.multiple:.2f}" if family.multiple <= 1 else f"**{family.multiple:.3g}**"
    return row(name, dtype, str(family.compared), multiple, family.worst, failed)


def gradients_row(name: str, ratios: dict[str, float]) -> str:
    """Format a program's ratios."""
    return row(name, *(f"{ratios[m]:.2f}" for m in MEASURES))


def gradients_mean(ratios: Sequence[dict[str, float]]) -> str:
    """Format the geometric means."""
    means = (statistics.geometric_mean([max(r[m], 1e-12) for r in ratios]) for m in MEASURES)
    return row("geometric mean", *(f"{mean:.2f}" for mean in means))


def steps_row(name: str, dtype: str, step: Step) -> str:
    """Format a large step."""
    return row(
        f"{name} {dtype}",
        f"{1e3 * step.fbp:.2f}",
        f"{step.fbp / step.jax:.2f}",
        f"{step.rate / 1e12:.3g}",
        f"{step.of_peak:.2f}" if step.of_peak == step.of_peak else "not known",
        f"{step.of_products:.2f}",
        f"{step.ulps:.3g}",
    )
