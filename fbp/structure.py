"""TOML into frozen dataclasses, strictly: what does not fit is an error that names the key."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
)

from fbp.errors import InputError, suggestion

T = TypeVar("T")
KeyPath = tuple[str | int, ...]

PRIMITIVES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}


def read_toml(path: Path) -> dict[str, Any]:
    """Read the tables of a TOML file.

    Raises InputError, naming the file and the place in it, for a file that cannot be read.

    >>> read_toml(Path("nowhere.toml"))
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: nowhere.toml: No such file or directory
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8: {error}") from error
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no path: {error}") from error
    return parse_toml(text, str(path))


def parse_toml(text: str, origin: str) -> dict[str, Any]:
    """Parse TOML text; InputError names `origin` and the position, if it is none.

    >>> parse_toml("train.steps = 100", "my.toml")
    {'train': {'steps': 100}}
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise InputError(
            f"{origin}: nested too deeply: give tables as a config has them"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{origin}: not TOML: {error}") from error
    except ValueError as error:
        raise InputError(f"{origin}: a number with too many digits: {error}") from error


def parse_setting(line: str) -> dict[str, Any]:
    """Parse what `--set` is given, one line of TOML; InputError says how it is written.

    >>> parse_setting("train.steps = 100")
    {'train': {'steps': 100}}
    """
    try:
        return parse_toml(line, f"--set {line}")
    except InputError as error:
        example = """give --set 'KEY=VALUE', text in quotes: --set 'optimizer.name="adam"'"""
        raise InputError(f"{error}: {example}") from error


def to_toml_values(value: Any) -> Any:
    """Return tables, arrays and numbers as TOML has them, without what is None.

    >>> to_toml_values({"widths": (8, 4), "target": None})
    {'widths': [8, 4]}
    """
    if isinstance(value, Mapping):
        return {str(k): to_toml_values(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [to_toml_values(entry) for entry in value]
    if hasattr(value, "tolist"):
        return to_toml_values(value.tolist())
    return value


def strict_converter() -> Converter:
    """Make a converter that neither ignores a key nor changes a type; an integer may be a float.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Train:
    ...     steps: int
    >>> structure({"steps": "10"}, Train, strict_converter(), "my.toml")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: my.toml: steps: expected an integer, got '10'
    >>> structure({"steps": 10, "stepps": 10}, Train, strict_converter(), "my.toml")
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: my.toml: stepps: unknown key: did you mean steps? Valid: steps
    """
    converter = Converter(forbid_extra_keys=True, detailed_validation=True, omit_if_default=True)
    for kind in PRIMITIVES:
        converter.register_structure_hook(kind, _exactly(kind))
    return converter


def structure(tables: Mapping[str, Any], cls: type[T], converter: Converter, origin: str) -> T:
    """Convert the tables to a `cls`.

    Raises InputError: `origin`, the path of a key at fault, and what is wrong with it.
    Dataclasses check their values in `__post_init__`, with `require`.
    """
    try:
        return converter.structure(tables, cls)
    except ClassValidationError as error:
        raise InputError(f"{origin}: {_explain(error, tables)}") from error


def _exactly(kind: type) -> Any:
    accepted = (int, float) if kind is float else (kind,)

    def hook(value: Any, _: type) -> Any:
        if type(value) not in accepted:
            raise TypeError
        return kind(value)

    return hook


def _explain(error: ClassValidationError, tables: Mapping[str, Any]) -> str:
    """Explain the first fault; unknown keys first, since they are often misspelt known ones."""
    faults = list(_faults(error, (), None))
    unknown = [fault for fault in faults if isinstance(fault[1], ForbiddenExtraKeysError)]
    path, cause, kind = (unknown or faults)[0]
    if isinstance(cause, ForbiddenExtraKeysError):
        key = min(cause.extra_fields)
        valid = [field.name for field in fields(cause.cl)]
        return f"{_dotted((*path, key))}: unknown key: {suggestion(key, valid)}"
    if isinstance(cause, InputError):
        return f"{_dotted(path)}.{cause}" if path else str(cause)
    if isinstance(cause, KeyError):
        return f"{_dotted(path)}: this key is missing: give {_describe(kind)}"
    return f"{_dotted(path)}: expected {_describe(kind)}, got {_value(tables, path)!r}"


def _faults(
    error: BaseException, path: KeyPath, kind: Any
) -> Iterator[tuple[KeyPath, BaseException, Any]]:
    """Yield each fault with the path to it and the type that was expected there."""
    if not isinstance(error, ClassValidationError | IterableValidationError):
        yield path, error, kind
        return
    noted, others = error.group_exceptions()
    for inner, note in noted:
        key = note.name if isinstance(note, AttributeValidationNote) else note.index
        yield from _faults(inner, (*path, key), note.type)
    for inner in others:
        yield from _faults(inner, path, kind)


def _dotted(path: KeyPath) -> str:
    """Format a path: `train.steps`, `sweep.learning_rate[2]`."""
    joined = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return joined.lstrip(".")


def _value(tables: Any, path: KeyPath) -> Any:
    for part in path:
        tables = tables[part]
    return tables


def _describe(kind: Any) -> str:
    options = [option for option in get_args(kind) if option is not NoneType]
    if is_dataclass(kind):
        return f"a table with the keys {', '.join(field.name for field in fields(kind))}"
    if get_origin(kind) is tuple:
        return "an array"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(options)}"
    return PRIMITIVES.get(kind) or " or ".join(map(_describe, options)) or str(kind)
