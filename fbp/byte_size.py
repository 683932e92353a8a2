"""Amounts of memory as people write them."""

import re

from fbp.errors import InputError

UNITS = {"B": 1}
UNITS |= {f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)}
UNITS |= {f"{prefix}B": 1000**power for power, prefix in enumerate("kMGT", 1)}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]+)\s*")


def parse_bytes(text: str) -> int:
    """Return the bytes that a text such as `8 GiB` says.

    Raises InputError for a text without a number and a unit, or of no bytes.

    >>> parse_bytes("8 GiB"), parse_bytes("1.5 kB")
    (8589934592, 1500)
    """
    match = SIZE.fullmatch(text)
    if match is None or match[2] not in UNITS or not (size := float(match[1]) * UNITS[match[2]]):
        raise InputError(
            f"memory: must be a number and a unit, such as '8 GiB' (units: {', '.join(UNITS)}), "
            f"got {text!r}"
        )
    return int(size)
