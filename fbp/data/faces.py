"""Faces against other pictures: a screening task of 200 small images in grey."""

import io

import numpy as np

from fbp.data import wheel
from fbp.data.dataset import Source

SUBSET = "skimage/data/lfw_subset.npy"
SCIKIT_IMAGE = wheel.Wheel(
    "scikit-image==0.26.0",
    {SUBSET: "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c"},
    options=(
        *("--python-version", "3.12", "--implementation", "cp", "--abi", "cp312"),
        *("--platform", "manylinux_2_24_x86_64", "--platform", "manylinux_2_28_x86_64"),
    ),
)


def faces() -> Source:
    """100 faces and 100 pictures without one, of 25x25 pixels with levels of grey from 0 to 1.

    Source: a part of Labeled Faces in the Wild (Huang et al. 2007) as scikit-image brings it.
    """
    images = np.load(io.BytesIO(wheel.read_members(SCIKIT_IMAGE)[SUBSET]), allow_pickle=False)
    is_face = np.arange(len(images)) < len(images) // 2
    return Source(
        "faces",
        images,
        is_face.astype(np.int64),
        target_names=("other", "face"),
        task="classification",
    )
