"""The table of rules, tested on the device: how far fbp's results lie from JAX's there.

The cases are those of tests/autodiff/rules, with their tolerances, which were set on CPUs. What a
device's arithmetic needs beyond them is stated as a multiple. Products are computed in the highest
precision: the default one of GPUs and TPUs rounds operands to TF32 and bfloat16.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).parents[2]
DTYPES = ("float32", "bfloat16")


@dataclass
class Family:
    """What a family's cases showed.

    Attributes:
      compared: how many cases gave results on this device.
      multiple: the largest difference, as a multiple of its case's tolerance; `worst` is the case.
      failed: the cases that could not run here, and what was raised.
    """

    compared: int = 0
    multiple: float = 0.0
    worst: str = ""
    failed: list[str] = field(default_factory=list)


def families(only: Sequence[str] = ()) -> Iterator[tuple[str, str, Family]]:
    """Name, dtype and outcome of each family of rules."""
    sys.path.insert(0, str(ROOT / "tests"))
    for path in sorted((ROOT / "tests" / "autodiff" / "rules").glob("test_*.py")):
        name = path.stem.removeprefix("test_")
        if only and name not in only:
            continue
        sys.path.insert(0, str(path.parent))
        cases = getattr(importlib.import_module(path.stem), "CASES", ())
        for dtype in DTYPES:
            found = outcome([case for case in cases if dtype in case.dtypes], dtype)
            if found.compared or found.failed:
                yield name, dtype, found
        jax.clear_caches()


def outcome(cases: Sequence[Any], dtype: str) -> Family:
    """What these cases show in this dtype; those of one primitive are compiled together."""
    groups: dict[str, list[Any]] = {}
    for case in cases:
        groups.setdefault(case.primitive.name, []).append(case)
    family = Family()
    for group in groups.values():
        try:
            _add(family, group, dtype)
        except Exception:  # whatever a device's compiler raises for what it lacks
            for case in group:
                _add_if_possible(family, case, dtype)
    return family


def _add_if_possible(family: Family, case: Any, dtype: str) -> None:
    try:
        _add(family, [case], dtype)
    except Exception as error:  # see above
        first, *_ = str(error).splitlines() or [""]
        family.failed.append(f"{_name(case)}: {type(error).__name__}: {first[:80]}")


def _add(family: Family, group: Sequence[Any], dtype: str) -> None:
    from table import first_order_distances  # pyright: ignore[reportMissingImports]

    with jax.default_matmul_precision("highest"):
        multiples = first_order_distances(group, dtype)
    family.compared += len(group)
    for case, multiple in zip(group, multiples, strict=True):
        if multiple > family.multiple:
            family.multiple, family.worst = multiple, _name(case)


def _name(case: Any) -> str:
    return f"{case.primitive} {case.name}".strip()
