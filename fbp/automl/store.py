"""A fitted model as one file: NumPy's `.npz`, with arrays and a text in JSON. No pickle."""

import json
from pathlib import Path
from typing import Any

import cattrs
import jax
import jax.numpy as jnp
import numpy as np
from cattrs.strategies import configure_tagged_union

from fbp.automl.encode import WIDTH, Encoder, ImageEncoder, SoundEncoder, TableEncoder
from fbp.automl.model import Model
from fbp.automl.networks import Architecture, build
from fbp.automl.story import Story
from fbp.data.cells import DATE_FORMATS
from fbp.data.columns import Column, Dated, Numeric
from fbp.data.npz import UNREADABLE, read_arrays
from fbp.errors import InputError

FORMAT = 2


def save_model(model: Model, story: Story, path: Any) -> None:
    """Write a model and its story into one file.

    `members/LAYER/PARAMETER` are the parameters, `classes` the labels, `about` all else, in JSON.
    Raises InputError where the file cannot be written.
    """
    paths = jax.tree_util.tree_leaves_with_path(model.members)
    members = {"/".join(["members", *(key.key for key in p)]): np.asarray(a) for p, a in paths}
    about = {
        "format": FORMAT,
        "model": {
            "task": model.task,
            "target_name": model.target_name,
            "encoder": _converter().unstructure(model.encoder, Encoder),
            "architecture": _converter().unstructure(model.architecture),
            "mean": model.mean,
            "std": model.std,
            "layers": list(model.members),
        },
        "story": story_as_data(story),
    }
    text = json.dumps(about, allow_nan=False)
    try:
        with Path(path).open("wb") as file:
            arrays = {"about": np.array(text), "classes": model.classes, **members}
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}): free space, or give another path"
        ) from error


def load_model(path: Any) -> tuple[Model, Story]:
    """Return what `save_model` wrote; see `fbp.load_fitted`."""
    path = Path(path)
    path = path / "model.npz" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file: give the directory that fbp fit wrote")
    try:
        arrays = read_arrays(path)
        about = json.loads(str(arrays.pop("about")), parse_constant=_refuse_constant)
        if about["format"] != FORMAT:
            raise InputError(
                f"{path}: of format {about['format']}, this version of fbp reads {FORMAT}: fit anew"
            )
        return _parts(about, arrays)
    except InputError:
        raise
    except (*UNREADABLE, AttributeError, RecursionError, cattrs.BaseValidationError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a model that fbp wrote, or damaged ({reason})") from error


def story_as_data(story: Story) -> dict[str, Any]:
    """Return the story as dicts, lists, strings and numbers."""
    return _converter().unstructure(story)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _parts(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Model, Story]:
    facts, converter = about["model"], _converter()
    classes = arrays.pop("classes")
    members: dict[str, Any] = {layer: {} for layer in facts["layers"]}
    for name, array in arrays.items():
        _, layer, parameter = name.split("/")
        members[layer][parameter] = jnp.asarray(_finite(name, array))
    model = Model(
        task=facts["task"],
        target_name=facts["target_name"],
        classes=classes,
        encoder=converter.structure(facts["encoder"], Encoder),  # pyright: ignore[reportArgumentType]
        architecture=converter.structure(facts["architecture"], Architecture),
        members=members,
        mean=float(_finite("mean", np.array(facts["mean"]))),
        std=float(_finite("std", np.array(facts["std"]))),
    )
    _check(model)
    return model, converter.structure(about["story"], Story)


def _finite(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"{name} holds what is no finite number")
    return array


def _check(model: Model) -> None:
    """Raise ValueError unless the parts of a model fit each other."""
    architecture = model.architecture
    outputs = max(1, len(model.classes))
    if model.task not in ("classification", "regression") or architecture.outputs != outputs:
        raise ValueError(f"{architecture.outputs} outputs for {len(model.classes)} classes")
    if (model.task == "regression") != (len(model.classes) == 0) or model.std <= 0:
        raise ValueError(f"task {model.task}, {len(model.classes)} classes, std {model.std}")
    _check_columns(model.encoder)
    init = lambda key: build(architecture).init(key, (1, *_feature_shape(model.encoder)))[0]
    expected = jax.eval_shape(init, jax.random.key(0))
    shapes = {jax.tree_util.keystr(p): a.shape for p, a in jax.tree.leaves_with_path(expected)}
    stored = {jax.tree_util.keystr(p): a.shape for p, a in jax.tree.leaves_with_path(model.members)}
    counts = {shape[:1] for shape in stored.values()}
    without = {name: shape[1:] for name, shape in stored.items()}
    if without != shapes or len(counts) != 1 or counts == {(0,)}:
        raise ValueError("the shapes of its parameters are not those of its network")


def _feature_shape(encoder: Encoder) -> tuple[int, ...]:
    if isinstance(encoder, ImageEncoder):
        return encoder.shape
    table = encoder.table if isinstance(encoder, SoundEncoder) else encoder
    return (-(-len(table.features) // WIDTH) * WIDTH,)


def _check_columns(encoder: Encoder) -> None:
    table = encoder.table if isinstance(encoder, SoundEncoder) else encoder
    columns = table.columns if isinstance(table, TableEncoder) else ()
    numbers = [encoder.mean, encoder.std] if isinstance(encoder, ImageEncoder) else [0.0, 1.0]
    stds = [numbers[1]]
    for column in columns:
        if isinstance(column, Numeric):
            numbers += [column.mean, column.std, column.low, column.high, column.sentinel or 0]
            stds.append(column.std)
        elif isinstance(column, Dated):
            numbers += column.days
            stds.append(column.days[1])
            if column.kind.form not in DATE_FORMATS:
                raise ValueError(f"column {column.name}: unknown date format")
    if not np.isfinite(numbers).all() or min(stds) <= 0:
        raise ValueError("the scale of a column is no finite number above 0")


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    configure_tagged_union(Column, converter)
    configure_tagged_union(Encoder, converter)
    return converter
