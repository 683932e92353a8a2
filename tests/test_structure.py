from dataclasses import dataclass
from typing import Literal

import pytest

from fbp import InputError
from fbp.errors import require
from fbp.structure import parse_toml, read_toml, strict_converter, structure


@dataclass(frozen=True)
class Inner:
    count: int
    rate: float = 1.0
    kind: Literal["one", "two"] = "one"
    sizes: tuple[int, ...] = ()
    note: str | None = None

    def __post_init__(self):
        require(self.count > 0, "count", self.count, "positive")


@dataclass(frozen=True)
class Outer:
    inner: Inner


def read(inner):
    return structure({"inner": inner}, Outer, strict_converter(), "my.toml")


def test_integer_is_accepted_for_a_float():
    assert read({"count": 1, "rate": 2}) == Outer(Inner(1, 2.0))
    assert isinstance(read({"count": 1, "rate": 2}).inner.rate, float)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"count": "1"}, "my.toml: inner.count: expected an integer, got '1'"),
        ({"count": 1.0}, "my.toml: inner.count: expected an integer, got 1.0"),
        ({"count": True}, "my.toml: inner.count: expected an integer, got True"),
        ({"count": 1, "rate": "2"}, "my.toml: inner.rate: expected a number, got '2'"),
        ({"count": 1, "rate": True}, "my.toml: inner.rate: expected a number, got True"),
        ({"count": 1, "kind": "three"}, "my.toml: inner.kind: expected one of one, two, got 'th"),
        ({"count": 1, "sizes": [1, "b"]}, "my.toml: inner.sizes[1]: expected an integer, got 'b'"),
        ({"count": 1, "sizes": 3}, "my.toml: inner.sizes: expected an array, got 3"),
        ({"count": 1, "note": 3}, "my.toml: inner.note: expected a string, got 3"),
        ({"count": 0}, "my.toml: inner.count: must be positive, got 0"),
        ({}, "my.toml: inner.count: this key is missing: give an integer"),
        (3, "my.toml: inner: expected a table with the keys count, rate, kind, sizes, note, got 3"),
        ([1], "my.toml: inner: expected a table with the keys count"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(inner, message):
    with pytest.raises(InputError) as error:
        read(inner)
    assert str(error.value).startswith(message)


def test_unknown_key_is_named_before_the_missing_one_it_was_meant_for():
    with pytest.raises(InputError) as error:
        read({"cuont": 1})
    expected = "my.toml: inner.cuont: unknown key: did you mean count? Valid: count, rate, kind"
    assert str(error.value).startswith(expected)


def test_unreadable_files_are_named(tmp_path):
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"binary\.toml: not a text file in UTF-8"):
        read_toml(binary)
    with pytest.raises(InputError, match="Is a directory"):
        read_toml(tmp_path)


def test_toml_that_is_none_is_named_with_the_position():
    with pytest.raises(InputError, match=r"my\.toml: not TOML: .* line 2, column"):
        parse_toml("a = 1\nb = c\n", "my.toml")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbfsteps = 1\n")
    assert read_toml(tmp_path / "bom.toml") == {"steps": 1}
