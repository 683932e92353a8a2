"""Divide parameters over devices: partition specs by path."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from fbp.errors import InputError

LayoutRule = tuple[str, P]
Layout = Sequence[LayoutRule] | Callable[[Any], Sequence[LayoutRule]]


def partition_specs(params: Any, mesh: Mesh, layout: Layout) -> Any:
    """Return each parameter's partition spec, of the first rule whose pattern its path matches.

    Args:
      params: a tree of arrays, or of their shapes.
      mesh: the devices, by the axes that the specs name.
      layout: rules, or a function of `params` that returns them, such as `megatron`. A rule is a
        regular expression, searched for in a path such as `1_dense/kernel`, and a spec. A
        parameter that no rule matches is replicated.

    Returns:
      A tree of specs, of the structure of `params`.

    Raises:
      InputError: a pattern matches no path, a spec names an axis that the mesh lacks or has more
        entries than a parameter has dimensions, or a dimension does not divide.

    >>> params = {"1_dense": {"kernel": np.ones((64, 32)), "bias": np.ones(32)}}
    >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
    >>> specs = partition_specs(params, mesh, [("kernel$", P(None, "model"))])
    >>> specs["1_dense"]["kernel"] == P(None, "model"), specs["1_dense"]["bias"] == P()
    (True, True)
    """
    rules = layout(params) if callable(layout) else layout
    paths = _paths(params)
    for pattern, spec in rules:
        _check_rule(pattern, spec, paths, mesh)

    def of(path: tuple, leaf: Any) -> P:
        name = path_name(path)
        spec = next((spec for pattern, spec in rules if re.search(pattern, name)), P())
        _check_fits(name, np.shape(leaf), spec, mesh)
        return spec

    return jax.tree_util.tree_map_with_path(of, params)


def megatron(params: Any, axis: str = "model") -> Sequence[LayoutRule]:
    """Return the tensor-parallel layout of this package's layers, for the parameters of a network.

    Layers in pairs: the first is divided by columns and the second by rows, so that what is
    between them stays divided and one sum over the devices follows each pair. Pairs are

    - the projections to Q, K, V and out of an attention, which is thereby divided by heads: their
      number must be a multiple of the devices;
    - `up` and `down` of a transformer's block;
    - dense layers of a `serial` that are passed by position, the first and the second, and so on,
      with what works feature by feature between them, as in `mlp` and `cnn`.

    The others are replicated. Q, K and V are side by side in one kernel, whose equal parts are not
    those of the heads: the compiler has the devices exchange Q, K and V once forward and once
    backward.

    Args:
      params: the parameters, or their shapes.
      axis: the mesh's axis to divide them over.

    Returns:
      Rules, as `partition_specs` takes them.

    Source: Shoeybi et al. 2019, Megatron-LM, arXiv 1909.08053.

    >>> from fbp.nn import mlp
    >>> params, _ = mlp([32, 10]).init(jax.random.key(0), (-1, 64))
    >>> for pattern, spec in megatron(params):
    ...     print(pattern, *spec)
    ^1_dense/kernel$ None model
    ^1_dense/bias$ model
    ^3_dense/kernel$ model None
    """
    paths = _paths(params)
    pairs = [*_dense_pairs(paths), ("(^|/)qkv_", "(^|/)out_"), ("(^|/)up/", "(^|/)down/")]
    rules = [
        rule
        for first, second in pairs
        for rule in (
            (f"{first}kernel$", P(None, axis)),
            (f"{first}bias$", P(axis)),
            (f"{second}kernel$", P(axis, None)),
        )
    ]
    return [(pattern, spec) for pattern, spec in rules if _matches(pattern, paths)]


def path_name(path: tuple) -> str:
    """Return a path as patterns see it.

    >>> path_name(jax.tree_util.tree_leaves_with_path({"1_dense": {"kernel": 0}})[0][0])
    '1_dense/kernel'
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def describe_mesh(mesh: Mesh) -> str:
    """Describe a mesh, for an error.

    >>> describe_mesh(jax.make_mesh((1, 1), ("data", "model")))
    'the mesh data 1 x model 1'
    """
    return "the mesh " + " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())


def _dense_pairs(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    matches = [re.fullmatch(r"((?:.*/)?)(\d+)_dense/kernel", path) for path in paths]
    layers = sorted((match[1], int(match[2])) for match in matches if match)
    for parent, siblings in groupby(layers, key=lambda layer: layer[0]):
        names = [f"^{re.escape(parent)}{number}_dense/" for _, number in siblings]
        yield from zip(names[::2], names[1::2], strict=False)


def _paths(params: Any) -> list[str]:
    return [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def _matches(pattern: str, paths: Sequence[str]) -> bool:
    return any(re.search(pattern, path) for path in paths)


def _check_rule(pattern: str, spec: P, paths: Sequence[str], mesh: Mesh) -> None:
    if not _matches(pattern, paths):
        raise InputError(
            f"the layout's pattern {pattern!r} matches no parameter: the paths are "
            f"{', '.join(paths)}; correct the pattern, or leave the rule out"
        )
    for axis in {axis for entry in spec for axis in _axes(entry)} - set(mesh.axis_names):
        raise InputError(
            f"the layout divides {pattern!r} over {axis!r}, and {describe_mesh(mesh)} has no such "
            f"axis: give a mesh with an axis {axis!r}, or another spec than {spec}"
        )


def _check_fits(name: str, shape: tuple[int, ...], spec: P, mesh: Mesh) -> None:
    if len(spec) > len(shape):
        raise InputError(
            f"params {name} has shape {list(shape)}, and {spec} has {len(spec)} entries: give "
            "one for each dimension at most, or a pattern that leaves this parameter out"
        )
    for dimension, entry in enumerate(spec):
        devices = math.prod(mesh.shape[axis] for axis in _axes(entry))
        if shape[dimension] % devices:
            raise InputError(
                f"params {name} has shape {list(shape)}, and {spec} divides dimension {dimension} "
                f"over {devices} devices of {describe_mesh(mesh)}: {shape[dimension]} is no "
                "multiple; change the width or the mesh, or leave this parameter out of the layout"
            )


def _axes(entry: Any) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)
