"""What was measured as a Markdown table, and the targets."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.throughput.bare_dots import operations
from benchmarks.throughput.measure import Measured


@dataclass(frozen=True)
class Target:
    """A ratio that fbp's speed shall have to another."""

    least: float
    to: str
    groups: tuple[str, ...]
    applies: Callable[[Measured], bool]


def _is_mlp(*widths: int) -> Callable[[Measured], bool]:
    return lambda m: m.work.kind == "mlp" and m.work.width in widths


TARGETS = (
    Target(20.0, "PyTorch loop in one process", ("PyTorch loop",), _is_mlp(16)),
    Target(5.0, "PyTorch loop in one process", ("PyTorch loop",), _is_mlp(128)),
    Target(4.0, "best that is not hand-written JAX", ("PyTorch loop", "other"), lambda _: True),
    Target(1.0, "best hand-written JAX", ("hand-written JAX",), lambda _: True),
    Target(0.5, "bare matrix products", ("machine",), _is_mlp(512)),
)


def table(measured: Measured) -> str:
    """Make a row for each contender, the fastest first; those not installed last."""
    fbp = measured.best("fbp")
    lines = [
        "| | trial-steps/s | fbp is | first run, s | |",
        "|---|---:|---:|---:|---|",
    ]
    for speed in sorted(measured.speeds, key=lambda s: -s.rate):
        ratio = f"{fbp.rate / speed.rate:.2f}x" if fbp else ""
        note = speed.note
        if speed.contender.group == "machine":
            note = f"{speed.rate * operations(measured.work) / 1e9:.0f} GFLOP/s"
        cells = (speed.contender.name, f"{speed.rate:,.0f}", ratio, f"{speed.cold:.1f}", note)
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| {name} | not installed | | | |" for name in measured.missing]
    return "\n".join(lines)


def verdicts(measured: Measured) -> list[str]:
    """Every target of this work: the ratio, and whether it is reached."""
    return [_verdict(measured, target) for target in TARGETS if target.applies(measured)]


def _verdict(measured: Measured, target: Target) -> str:
    fbp, other = measured.best("fbp"), measured.best(*target.groups)
    if fbp is None or other is None:
        return f"{target.to}: not measured"
    ratio = fbp.rate / other.rate
    judgement = "reached" if ratio >= target.least else "MISSED"
    return (
        f"fbp is {ratio:.2f}x the {target.to} ({other.contender.name}), "
        f"to reach {target.least:g}x: {judgement}"
    )
