"""Images in PNG files of one size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fbp.errors import InputError

INSTALL = "pip install 'fbp-jax[experiments]'"
GREY = ("1", "L", "I", "I;16", "F")


def read_images(paths: Sequence[Path]) -> UInt8[np.ndarray, "images height width colours"]:
    """The pixels, from 0 to 255: one number for each if all images are grey, else red, green, blue.

    Sixteen bits are reduced to eight; transparency is left out.

    Raises InputError, naming the file, where one cannot be read or has another size than the
    first, and where Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            f"PNG files are read with Pillow, which is not installed: {INSTALL}"
        ) from error
    images = []
    for path in paths:
        try:
            with Image.open(path, formats=["PNG"]) as image:
                images.append(_grey_or_colour(image))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise InputError(
                f"{path}: not a PNG image, or damaged ({error}): write it anew or remove it"
            ) from error
        if images[-1].shape[:2] != images[0].shape[:2]:
            sizes = ["{1} x {0}".format(*picture.shape) for picture in (images[-1], images[0])]
            raise InputError(
                f"{path}: {sizes[0]} pixels, but {paths[0].name} has {sizes[1]}: give images of "
                "one size"
            )
    colours = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(i, (*i.shape[:2], colours)) for i in images])


def _grey_or_colour(image) -> UInt8[np.ndarray, "height width colours"]:
    if image.mode.startswith("I"):
        return (np.asarray(image.convert("I")) >> 8).astype(np.uint8)[..., None]
    grey = image.mode in (*GREY, "LA")
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels
