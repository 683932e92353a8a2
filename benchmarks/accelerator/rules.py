"""The table of rules, tested on the device: how far fbp's results lie from JAX's there.

The cases are those of tests/autodiff/rules, with their tolerances, which were set on CPUs. What a
device's arithmetic needs beyond them is stated as a multiple. Products are computed in the highest
precision: the default one of GPUs and TPUs rounds operands to TF32 and bfloat16.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).parents[2]
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
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
    failed: tuple[str, ...] = ()

    def __add__(self, other: "Family") -> "Family":
        """Both together."""
        worse = max(self, other, key=lambda family: family.multiple)
        compared, failed = self.compared + other.compared, self.failed + other.failed
        return Family(compared, worse.multiple, worse.worst, failed)


def families(only: Sequence[str] = ()) -> Iterator[tuple[str, str, Family]]:
    """Name, dtype and outcome of each family of rules."""
    sys.path.insert(0, str(ROOT))
    for path in sorted((ROOT / "tests" / "autodiff" / "rules").glob("test_*.py")):
        name = path.stem.removeprefix("test_")
        if only and name not in only:
            continue
        sys.path.insert(0, str(path.parent))
        try:
            cases = getattr(importlib.import_module(path.stem), "CASES", ())
        except ValueError as error:  # its cases are made for more devices than are here
            yield name, "", Family(failed=(str(error),))
            continue
        for dtype in DTYPES:
            outcome_of_dtype = outcome([case for case in cases if dtype in case.dtypes], dtype)
            if outcome_of_dtype.compared or outcome_of_dtype.failed:
                yield name, dtype, outcome_of_dtype
        jax.clear_caches()


def outcome(cases: Sequence[Any], dtype: str) -> Family:
    """Run these cases in this dtype, on all cores.

    Those of one primitive are compiled together, and as many groups at a time as there are cores.
    """
    groups: dict[str, list[Any]] = {}
    for case in cases:
        groups.setdefault(case.primitive.name, []).append(case)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(lambda group: _of_group(group, dtype), groups.values()), Family())


def _of_group(group: Sequence[Any], dtype: str) -> Family:
    try:
        return _compared(group, dtype)
    except Exception:  # whatever a device's compiler raises for what it lacks
        return sum((_of_case(case, dtype) for case in group), Family())


def _of_case(case: Any, dtype: str) -> Family:
    try:
        return _compared([case], dtype)
    except Exception as error:  # see above
        first, *_ = str(error).splitlines() or [""]
        return Family(failed=(f"{_name(case)}: {type(error).__name__}: {first[:80]}",))


def _compared(group: Sequence[Any], dtype: str) -> Family:
    from fbp.testing import first_order_distances

    with jax.default_matmul_precision("highest"):
        multiples = first_order_distances(group, dtype)
    worst, case = max(zip(multiples, group, strict=True), key=lambda pair: pair[0])
    return Family(len(group), worst, _name(case) if worst else "")


def _name(case: Any) -> str:
    return f"{case.primitive} {case.name}".strip()
