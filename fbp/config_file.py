"""From a TOML file to a Config, strictly.

An unknown key, a wrong type or a value out of range is an InputError that names the file, the
key and what it may be.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn

from fbp.config import (
    FLAGS,
    NETWORKS,
    SEARCHES,
    Config,
    Data,
    Imported,
    LogGrid,
    Network,
    Optimizer,
    Range,
    Search,
    Values,
)
from fbp.errors import InputError, require_one_of
from fbp.shipped import config_path
from fbp.structure import parse_setting, read_toml, strict_converter, structure

COMPARABLE = ("data", "network", "optimizer", "train", "loss", "metrics", "problem")
NO_AXES = (
    "train.steps",
    "train.evaluate_every",
    "train.metric",
    "train.higher_is_better",
    "train.target",
    "train.record",
)  # trials could not be compared


OPTIONAL_TABLES = ("data", "network", "optimizer")
"""Tables that a config may be without, where the problem is given otherwise."""


@dataclass(frozen=True)
class Variant:
    """A config with one value of each of its axes.

    Attributes:
      config: it has no axes left.
      values: those of the axes, by key, as a record has them: numbers, or text for one axis
        whose values are not all numbers.
    """

    config: Config
    values: Mapping[str, float | str]


def load_config(path: Path, settings: Sequence[str] = ()) -> Config:
    """Read the config in a TOML file.

    Args:
      path: the file.
      settings: what to set beside it, each a line of TOML such as `train.steps = 100`.

    Raises InputError, naming the file and the key, for whatever does not fit.

    >>> load_config(Path("configs/digits_mlp.toml"), ["sweep.seeds = 2"]).sweep.seeds
    2
    """
    return config_of(read_tables(path, settings), str(path))


def config_of(tables: Mapping[str, Any], origin: str) -> Config:
    """Make the config of the tables of a TOML file; `origin` is named in errors.

    A key that is an axis has the first of its values; the config of every combination is
    checked too.
    """
    of_axes = dict.fromkeys(key.partition(".")[0] for key in _axes(tables, origin))
    _require_tables({**of_axes, **tables}, origin)
    return problem_config(tables, origin)


def _require_tables(tables: Mapping[str, Any], origin: str) -> None:
    """Raise InputError for a table that a config without a problem cannot be without."""
    needed = {"data": Data, "network": NETWORKS["mlp"], "optimizer": Optimizer}
    for key, cls in needed.items():
        if key not in tables and "problem" not in tables:
            keys = ", ".join(field.name for field in fields(cls))
            raise InputError(
                f"{origin}: {key}: this key is missing: give a table with the keys {keys}, or "
                'import = "module:name"'
            )


def problem_config(tables: Mapping[str, Any], origin: str) -> Config:
    """Make the config of a problem that is given as such: its name, `train` and `sweep`."""
    axes = _axes(tables, origin)
    first = _with_values(tables, {key: values[0] for key, values in axes.items()})
    if axes:
        first["sweep"]["axes"] = axes
    config = structure({**dict.fromkeys(OPTIONAL_TABLES), **first}, Config, _converter(), origin)
    variants_of(config, origin)
    return config


def tables_of(config: Config) -> dict[str, Any]:
    """Return the tables of a TOML file that is read as this config, without axes in their keys."""
    tables = _converter().unstructure(config)
    for key in config.sweep.axes:
        *path, last = key.split(".")
        table = tables
        for part in path:
            table = table.get(part, {})
        table.pop(last, None)
    return tables


def variants_of(config: Config, origin: str = "sweep.axes") -> list[Variant]:
    """List the configs of every combination of the axes' values; the last axis varies fastest.

    Raises InputError for a combination that is no config.

    >>> config = load_config(Path("configs/digits_mlp.toml"))
    >>> sweep = replace(config.sweep, axes={"network.widths": ([16], [64])})
    >>> variants = variants_of(replace(config, sweep=sweep))
    >>> [(variant.values, variant.config.network.widths) for variant in variants]
    [({'network.widths': 16}, (16,)), ({'network.widths': 64}, (64,))]
    """
    axes, converter = config.sweep.axes, _converter()
    if not axes:
        return [Variant(config, {})]
    tables = converter.unstructure(replace(config, sweep=replace(config.sweep, axes={})))
    columns = [_column(values) for values in axes.values()]
    variants = []
    for values, entries in zip(product(*axes.values()), product(*columns), strict=True):
        labels = dict(zip(axes, entries, strict=True))
        named = ", ".join(f"{key} = {value}" for key, value in labels.items())
        changed = _with_values(tables, dict(zip(axes, values, strict=True)))
        changed = {**dict.fromkeys(OPTIONAL_TABLES), **changed}
        variant = structure(changed, Config, converter, f"{origin}: with {named}")
        variants.append(Variant(variant, labels))
    return variants


def read_tables(path: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Read the tables of a TOML file, with `settings` over them."""
    tables = read_toml(config_path(path))
    for line in settings:
        _merge(tables, parse_setting(line))
    return tables


def _axes(tables: Mapping[str, Any], origin: str) -> dict[str, list[Any]]:
    """Return the axes by dotted key; InputError for one that is none, or whose key is also set."""
    sweep = tables.get("sweep")
    table = sweep.get("axes", {}) if isinstance(sweep, Mapping) else {}
    axes = dict(_leaves(table)) if isinstance(table, Mapping) else {"": table}
    for key, values in axes.items():
        where = f"{origin}: sweep.axes.{key}"
        table, *rest = key.split(".")
        require_one_of(where, table, COMPARABLE)
        if key in NO_AXES:
            raise InputError(f"{where}: trials that differ in it cannot be compared: give one")
        if rest[:1] == ["hyperparameters"] and rest[-1] not in FLAGS:
            raise InputError(f"{where}: give it as sweep.hyperparameters.{rest[-1]}")
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: expected an array of values, got {values!r}")
        if len(set(map(_text, values))) < len(values):
            raise InputError(f"{where}: must be without repetition, got {values!r}")
        if _has(tables, key):
            raise InputError(f"{where}: also in {key}: give it once")
    return axes


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _has(tables: Mapping[str, Any], key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tables, Mapping) or part not in tables:
            return False
        tables = tables[part]
    return True


def _with_values(tables: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    changed = deepcopy(dict(tables))
    for key, value in values.items():
        *path, last = key.split(".")
        table = changed
        for part in path:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise InputError(f"sweep.axes.{key}: {part} is no table: name a key of the config")
        table[last] = value
    return changed


def _column(values: Sequence[Any]) -> list[float | str]:
    numbers = [_number(value) for value in values]
    if all(number is not None for number in numbers):
        return [number for number in numbers if number is not None]
    return [_text(value) for value in values]


def _number(value: Any) -> float | None:
    """Return a number, or the only one of a list."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 1:
        return _number(value[0])
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    """Format a value of an axis as a reader writes it.

    >>> _text([64, 32]), _text({"name": "sgd", "hyperparameters": {"momentum": 0.9}})
    ('64-32', 'name sgd, hyperparameters momentum 0.9')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return "-".join(map(_text, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _converter() -> Converter:
    converter = strict_converter()
    converter.register_structure_hook(Values, _values(converter))
    converter.register_structure_hook(float | bool, _number_or_flag)
    _register_kinds(converter, Network, NETWORKS)
    _register_kinds(converter, Search, SEARCHES)
    _register_imported(converter)
    return converter


def _register_imported(converter: Converter) -> None:
    """Register tables that have `import`, in place of a data set, a network or an optimizer."""

    def imported(value: Any) -> Imported:
        if not isinstance(value, Mapping) or not isinstance(value.get("import", ""), str):
            raise TypeError
        rest = {key: entry for key, entry in value.items() if key != "import"}
        return Imported(value.get("import", ""), rest)

    for union, otherwise in (
        (Data | Imported | None, Data),
        (Network | Imported | None, Network),
        (Optimizer | Imported | None, Optimizer),
    ):

        def read(value: Any, _: Any, otherwise: Any = otherwise) -> Any:
            if value is None:
                return None
            if isinstance(value, Mapping) and "import" in value:
                return imported(value)
            return converter.structure(value, otherwise)

        converter.register_structure_hook(union, read)
    converter.register_structure_hook(Imported, lambda value, _: imported(value))
    converter.register_unstructure_hook(
        Imported, lambda value: {"import": value.path, **value.arguments}
    )


def _register_kinds(converter: Converter, union: Any, kinds: Mapping[str, type]) -> None:
    """Register tables whose `kind` says which of the dataclasses they are."""

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, Mapping):
            raise TypeError
        kind = value.get("kind", "")
        require_one_of("kind", kind, kinds)
        rest = {key: entry for key, entry in value.items() if key != "kind"}
        return converter.structure(rest, kinds[kind])

    converter.register_structure_hook(union, read)
    for kind, cls in kinds.items():
        write = make_dict_unstructure_fn(cls, converter, _cattrs_omit_if_default=True)
        converter.register_unstructure_hook(
            cls, lambda value, kind=kind, write=write: {"kind": kind, **write(value)}
        )


def _values(converter: Converter) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Values:
        if not isinstance(value, Mapping):
            return converter.structure(value, tuple[float, ...])
        return converter.structure(value, LogGrid if "count" in value else Range)

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
