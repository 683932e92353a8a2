"""Amounts of memory as people write them."""

import pytest

from fbp.byte_size import parse_bytes
from fbp.errors import InputError
from fbp.plan.text import amount


@pytest.mark.parametrize("size", [512, 1024, 3 * 2**19, 8 * 2**30, 2**41])
def test_what_a_plan_prints_is_read_back(size):
    assert parse_bytes(amount(size)) == size


def test_units_of_a_thousand_and_of_1024_differ():
    assert parse_bytes("2MB") == 2_000_000
    assert parse_bytes(" 2 MiB ") == 2 * 2**20


@pytest.mark.parametrize(
    "text", ["", "8", "GiB", "8 gib", "-1 B", "0 B", "8 GiB 2", "1e3 B", "inf B"]
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InputError, match="must be a number and a unit, such as '8 GiB'"):
        parse_bytes(text)
