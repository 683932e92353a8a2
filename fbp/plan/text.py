"""Format a plan as text."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fbp.plan.compiled import Cost, TooLarge
from fbp.plan.requirements import ResourcePlan
from fbp.plan.shapes import Size

LINES = 12  # source lines that are shown
COUNTED = "flops, bytes accessed and collectives count the body of a loop once"
ROWS: dict[str, Callable[[Cost], str]] = {
    "arguments": lambda cost: amount(cost.arguments),
    "outputs": lambda cost: amount(cost.outputs),
    "  in place of arguments": lambda cost: amount(cost.aliased),
    "temporary": lambda cost: amount(cost.temporary),
    "memory": lambda cost: amount(cost.memory),
    "flops": lambda cost: f"{cost.flops:.4g}",
    "bytes accessed": lambda cost: amount(cost.accessed),
}


def report(plan: ResourcePlan) -> str:
    """Format a plan for a terminal.

    Returns:
      Tables of sizes and programs, then whether each program fits.

    >>> from pathlib import Path
    >>> from fbp.config_file import load_config
    >>> from fbp.plan import local_target, plan
    >>> from fbp.sweep import studies_of
    >>> (study,) = studies_of(load_config(Path("configs/digits_mlp.toml")))
    >>> print(report(plan(study, local_target())).splitlines()[3].split("  ")[0])
    of one trial
    """
    sizes = [
        *_sizes("parameters", plan.parameters),
        *_sizes(f"optimizer state ({plan.optimizer.name})", [plan.optimizer])[:1],
        *_sizes("residuals of a gradient", _largest(plan.residuals)),
    ]
    of_a_trial = _table([["of one trial", "numbers", "memory"], *sizes])
    return "\n\n".join([_head(plan), of_a_trial, _programs(plan), *_verdicts(plan)])


def amount(size: float) -> str:
    """Return bytes in the unit that suits them.

    >>> amount(512), amount(1536), amount(16 * 2**30)
    ('512 B', '1.5 KiB', '16 GiB')
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = next((i for i in range(4) if size < 1000 * 1024**i), 4)
    return f"{size / 1024**power:.3g} {units[power]}"


def shortened(line: str) -> str:
    """Return a source line as seen from here or from the packages."""
    return line.rpartition("/site-packages/")[2].removeprefix(f"{Path.cwd()}/")


def _head(plan: ResourcePlan) -> str:
    target, parallelism = plan.target, plan.parallelism
    memory = "" if target.memory is None else f" of {amount(target.memory)}"
    group = f" {parallelism.batch_size} at a time" if parallelism.batch_size > 1 else ""
    return (
        f"{target.name}: {len(target.devices)} x {target.kind}{memory}\n"
        f"{plan.trials} trials by {parallelism.kind}{group}, divided over "
        f"{parallelism.devices} devices"
    )


def _sizes(title: str, sizes: Sequence[Size]) -> list[list[str]]:
    rows = [_sum(title, sizes), *(replace(size, name=f"  {size.name}") for size in sizes)]
    return [[size.name, f"{size.numbers:,}", amount(size.bytes)] for size in rows]


def _largest(sizes: Sequence[Size]) -> list[Size]:
    """Shorten source lines, and sum the smallest."""
    shown = [replace(size, name=shortened(size.name)) for size in sizes[:LINES]]
    rest = sizes[LINES:]
    return [*shown, _sum(f"{len(rest)} more", rest)] if rest else shown


def _sum(name: str, sizes: Sequence[Size]) -> Size:
    return Size(name, sum(size.numbers for size in sizes), sum(size.bytes for size in sizes))


def _programs(plan: ResourcePlan) -> str:
    programs = (plan.update, plan.sweep)
    head = ["on each device", "one update", f"sweep, {plan.steps} steps"]
    rows = [[name, *(_cell(show, p) for p in programs)] for name, show in ROWS.items()]
    kinds = dict.fromkeys(c.kind for p in programs if isinstance(p, Cost) for c in p.collectives)
    for kind in kinds or ["collectives"]:
        rows.append([kind, *(_exchange(kind, p) for p in programs)])
    return _table([head, *rows])


def _cell(show: Callable[[Cost], str], program: Cost | TooLarge) -> str:
    return show(program) if isinstance(program, Cost) else "-"


def _exchange(kind: str, program: Cost | TooLarge) -> str:
    if isinstance(program, TooLarge):
        return "-"
    cells = [f"{c.count}: {amount(c.bytes)}" for c in program.collectives if c.kind == kind]
    return cells[0] if cells else "none"


def _verdicts(plan: ResourcePlan) -> list[str]:
    """Say whether each program fits, where that is known; and how its work is counted."""
    programs = {"one update": plan.update, "the sweep": plan.sweep}
    said = [_verdict(name, program, plan.target.memory) for name, program in programs.items()]
    return ["\n".join([*filter(None, said), COUNTED])]


def _verdict(name: str, program: Cost | TooLarge, memory: int | None) -> str:
    if isinstance(program, TooLarge):
        return f"{name} DOES NOT FIT: {program.reason}"
    if memory is None:
        return ""
    fits = "fits" if program.memory <= memory else "DOES NOT FIT"
    return f"{name} {fits}: {amount(program.memory)} of {amount(memory)} on each device"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Align the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
