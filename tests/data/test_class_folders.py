"""A folder is a class; what lies beside the folders is of none."""

import pytest

from fbp.data.class_folders import files_by_class, files_in
from fbp.errors import InputError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_files_come_sorted_with_their_folders_names(tmp_path):
    for name in ("b/2.wav", "b/1.WAV", "a/3.wav", "a/notes.txt", ".trash/9.wav", "a/.hidden.wav"):
        touch(tmp_path / name)
    paths, labels = files_by_class(tmp_path, [".wav"])
    assert [str(path.relative_to(tmp_path)) for path in paths] == ["a/3.wav", "b/1.WAV", "b/2.wav"]
    assert labels == ["a", "b", "b"]


def test_a_file_beside_the_folders_is_refused(tmp_path):
    touch(tmp_path / "stray.png")
    touch(tmp_path / "a/1.png")
    with pytest.raises(InputError, match=r"stray\.png lies beside the folders"):
        files_by_class(tmp_path, [".png"])


def test_folders_without_such_files_are_refused(tmp_path):
    touch(tmp_path / "a/1.txt")
    with pytest.raises(InputError, match=r"no \.png file in its folders"):
        files_by_class(tmp_path, [".png"])


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(InputError, match="absent: no such directory"):
        files_in(tmp_path / "absent", [".png"])
