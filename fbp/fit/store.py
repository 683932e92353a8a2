"""A fitted model as one file: NumPy's `.npz`, with arrays and a text in JSON. No pickle."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cattrs
import jax
import jax.numpy as jnp
import numpy as np
from cattrs.strategies import configure_tagged_union

from fbp.errors import InputError
from fbp.fit.encode import Encoder, Numbers, Words
from fbp.fit.fitted import Fitted, Model
from fbp.fit.networks import Architecture
from fbp.fit.story import Story

FORMAT = 1
UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error)


def save(fitted: Fitted, path: Any) -> None:
    """Write a model and its story into one file.

    `members/LAYER/PARAMETER` are the parameters, `classes` the labels, `about` all else, in JSON.
    Raises InputError where the file cannot be written.
    """
    model = fitted.model
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
            "spread": model.spread,
            "layers": list(model.members),
        },
        "story": story_as_data(fitted.story),
    }
    try:
        with Path(path).open("wb") as file:
            arrays = {"about": np.array(json.dumps(about)), "classes": model.classes, **members}
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}): free space, or give another path"
        ) from error


def load_fitted(path: Any) -> Fitted:
    """The model that `Fitted.save` or `fbp fit` wrote; a directory holds it as `model.npz`.

    Raises InputError for a file that is missing, damaged, or of another format.
    """
    path = Path(path)
    path = path / "model.npz" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such file: give the directory that fbp fit wrote")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        about = json.loads(str(arrays.pop("about")))
        if about["format"] != FORMAT:
            raise InputError(
                f"{path}: of format {about['format']}, this version of fbp reads {FORMAT}: fit anew"
            )
        return _fitted(about, arrays)
    except InputError:
        raise
    except (*UNREADABLE, cattrs.BaseValidationError) as error:
        raise InputError(f"{path}: not a model that fbp wrote, or damaged ({error})") from error


def story_as_data(story: Story) -> dict[str, Any]:
    """The story as dicts, lists, strings and numbers."""
    return _converter().unstructure(story)


def _fitted(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Fitted:
    facts, converter = about["model"], _converter()
    classes = arrays.pop("classes")
    members: dict[str, Any] = {layer: {} for layer in facts["layers"]}
    for name, array in arrays.items():
        _, layer, parameter = name.split("/")
        members[layer][parameter] = jnp.asarray(array)
    model = Model(
        task=facts["task"],
        target_name=facts["target_name"],
        classes=classes,
        encoder=converter.structure(facts["encoder"], Encoder),  # pyright: ignore[reportArgumentType]
        architecture=converter.structure(facts["architecture"], Architecture),
        members=members,
        mean=facts["mean"],
        spread=facts["spread"],
    )
    return Fitted(model, converter.structure(about["story"], Story))


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter()
    configure_tagged_union(Numbers | Words, converter)
    configure_tagged_union(Encoder, converter)
    return converter
