"""Images in PNG and JPEG files of one size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from fbp.errors import InputError

INSTALL = "pip install 'fbp-jax[experiments]'"
SUFFIXES = (".png", ".jpg", ".jpeg")
GRAY = ("1", "L", "I", "I;16", "F")


def read_images(paths: Sequence[Path]) -> UInt8[np.ndarray, "images height width channels"]:
    """Return the pixels, from 0 to 255: one channel if all images are gray, else three.

    Sixteen bits are reduced to eight; transparency is left out.

    Raises InputError, naming the file, where one cannot be read or has another size than the
    first, and where Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(
            f"images are read with Pillow, which is not installed: {INSTALL}"
        ) from error
    images = []
    for path in paths:
        try:
            with Image.open(path, formats=["PNG", "JPEG"]) as image:
                images.append(_gray_or_rgb(image))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise InputError(
                f"{path}: not a PNG or JPEG image, or damaged ({error}): write it anew or remove it"
            ) from error
        if images[-1].shape[:2] != images[0].shape[:2]:
            sizes = ["{1} x {0}".format(*picture.shape) for picture in (images[-1], images[0])]
            raise InputError(
                f"{path}: {sizes[0]} pixels, but {paths[0].name} has {sizes[1]}: give images of "
                "one size"
            )
    channels = max(image.shape[2] for image in images)
    return np.stack([np.broadcast_to(i, (*i.shape[:2], channels)) for i in images])


def _gray_or_rgb(image) -> UInt8[np.ndarray, "height width channels"]:
    if image.mode.startswith("I"):
        return (np.asarray(image.convert("I")) >> 8).astype(np.uint8)[..., None]
    gray = image.mode in (*GRAY, "LA")
    pixels = np.asarray(image.convert("L" if gray else "RGB"))
    return pixels[..., None] if gray else pixels
