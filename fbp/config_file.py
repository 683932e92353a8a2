"""From a TOML file to a Config, strictly.

An unknown key, a wrong type or a value out of range is an InputError that names the file, the
key and what it may be.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cattrs import Converter

from fbp.config import NETWORKS, Config, LogGrid, Network
from fbp.structure import parse_toml, read_toml, require_one_of, strict_converter, structure


def load_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """The config in a TOML file.

    Args:
      path: the file.
      settings: what to set beside it, each a line of TOML such as `train.steps = 100`.

    Raises InputError, naming the file and the key, for whatever does not fit.

    >>> load_config(Path("configs/digits_mlp.toml"), ["sweep.seeds = 2"]).sweep.seeds
    2
    """
    return config_of(read_tables(path, settings), str(path))


def config_of(tables: Mapping[str, Any], origin: str) -> Config:
    """The config that the tables of a TOML file hold; `origin` is named in errors."""
    return structure(tables, Config, _converter(), origin)


def read_tables(path: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file, with `settings` over them."""
    tables = read_toml(path)
    for line in settings:
        _merge(tables, parse_toml(line, f"--set {line}"))
    return tables


def _converter() -> Converter:
    converter = strict_converter()
    converter.register_structure_hook(LogGrid | tuple[float, ...], _rates(converter))
    converter.register_structure_hook(float | bool, _number_or_flag)
    converter.register_structure_hook(Network, _network(converter))
    return converter


def _network(converter: Converter) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Network:
        if not isinstance(value, Mapping):
            raise TypeError
        kind = value.get("kind", "")
        require_one_of("kind", kind, NETWORKS)
        rest = {key: entry for key, entry in value.items() if key != "kind"}
        return converter.structure(rest, NETWORKS[kind])

    return hook


def _rates(converter: Converter) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> LogGrid | tuple[float, ...]:
        kind = LogGrid if isinstance(value, Mapping) else tuple[float, ...]
        return converter.structure(value, kind)

    return hook


def _number_or_flag(value: Any, _: Any) -> float | bool:
    if not isinstance(value, bool | int | float):
        raise TypeError
    return value if isinstance(value, bool) else float(value)


def _merge(tables: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(tables.get(key), dict):
            _merge(tables[key], value)
        else:
            tables[key] = value
