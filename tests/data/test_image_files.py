"""Grey or in colour, the pixels are those that were written."""

import numpy as np
import pytest
from PIL import Image

from fbp.data.image_files import read_images
from fbp.errors import InputError


def write(path, pixels, mode=None):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def test_grey_images_have_one_number_a_pixel(tmp_path):
    grey = pixels(5, 7)
    images = read_images([write(tmp_path / "1.png", grey), write(tmp_path / "2.png", grey + 1)])
    assert images.shape == (2, 5, 7, 1)
    np.testing.assert_array_equal(images[0, ..., 0], grey)


def test_colours_are_kept_and_grey_images_among_them_get_three(tmp_path):
    colour, grey = pixels(4, 4, 3), pixels(4, 4)
    images = read_images([write(tmp_path / "1.png", grey), write(tmp_path / "2.png", colour)])
    np.testing.assert_array_equal(images[1], colour)
    np.testing.assert_array_equal(images[0], np.repeat(grey[..., None], 3, axis=2))


def test_palettes_and_transparency_become_colours(tmp_path):
    colour = pixels(4, 4, 3) // 128 * 255
    opaque = np.concatenate([colour, np.full((4, 4, 1), 255, np.uint8)], axis=2)
    paths = [write(tmp_path / "p.png", colour, "P"), write(tmp_path / "a.png", opaque)]
    for image in read_images(paths):
        np.testing.assert_array_equal(image, colour)


def test_sixteen_bits_are_reduced_to_eight(tmp_path):
    deep = np.array([[0, 256, 65535]], np.uint16)
    assert read_images([write(tmp_path / "1.png", deep)]).ravel().tolist() == [0, 1, 255]


def test_black_and_white_is_from_0_to_255(tmp_path):
    images = read_images([write(tmp_path / "1.png", np.array([[0, 255]], np.uint8), "1")])
    assert images.ravel().tolist() == [0, 255]


def test_images_of_different_sizes_are_refused(tmp_path):
    paths = [write(tmp_path / "1.png", pixels(4, 6)), write(tmp_path / "2.png", pixels(5, 6))]
    with pytest.raises(InputError, match=r"2\.png: 6 x 5 pixels, but 1\.png has 6 x 4"):
        read_images(paths)


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_a_damaged_image_is_named(tmp_path, cut):
    path = write(tmp_path / "1.png", pixels(30, 30))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"1\.png: not a PNG or JPEG image, or damaged"):
        read_images([path])


def test_another_format_is_no_png(tmp_path):
    Image.fromarray(pixels(4, 4)).save(tmp_path / "1.gif")
    (tmp_path / "1.gif").rename(tmp_path / "1.png")
    with pytest.raises(InputError, match="not a PNG or JPEG image"):
        read_images([tmp_path / "1.png"])


def test_jpeg_files_are_read_beside_png_files(tmp_path):
    level = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    for name in ("1.jpg", "2.JPEG", "3.png"):
        Image.fromarray(level).save(tmp_path / name)
    images = read_images(sorted(tmp_path.iterdir()))
    assert images.shape == (3, 16, 16, 3)
    assert np.abs(images.astype(int) - level).max() <= 3
