"""What the devices of a compiled program send each other."""

import math
import re
from collections import defaultdict
from dataclasses import dataclass

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
OPERATION = re.compile(rf"^\s*(?:ROOT )?%?\S+ = (.+?) ({'|'.join(KINDS)})(-start)?\(", re.M)
ARRAY = re.compile(r"\b[a-z]+(\d*)\w*\[([\d,]*)\]")


@dataclass(frozen=True)
class Collective:
    """Operations of one kind.

    Attributes:
      kind: such as `all-reduce`.
      count: how many there are; one in a loop counts once.
      bytes: their results on each device, together.
    """

    kind: str
    count: int
    bytes: int


def collectives(hlo: str) -> tuple[Collective, ...]:
    """List the collective operations of a compiled program, from its text.

    >>> text = "%sum = f32[8,128]{1,0} all-reduce(%x), replica_groups={{0,1}}"
    >>> collectives(text)
    (Collective(kind='all-reduce', count=1, bytes=4096),)
    """
    sizes: dict[str, list[int]] = defaultdict(list)
    for result, kind, start in OPERATION.findall(hlo):
        arrays = [_bytes(*array) for array in ARRAY.findall(result)]
        # A start gives its operand and its result, but that of an all-reduce the result alone.
        size = max(arrays) if start and kind != "all-reduce" else sum(arrays)
        sizes[kind].append(size)
    return tuple(
        Collective(kind, len(sizes_of_kind), sum(sizes_of_kind))
        for kind, sizes_of_kind in sizes.items()
    )


def _bytes(bits: str, shape: str) -> int:
    """Return the bytes of an array such as bf16[8,128]; pred, which names no bits, has one each."""
    numbers = math.prod(int(size) for size in shape.split(",") if size)
    return math.ceil(numbers * int(bits or 8) / 8)
