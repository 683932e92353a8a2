"""A model that is saved and loaded predicts and tells the same."""

import json

import numpy as np
import pytest

import fbp
from fbp.errors import InputError


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_a_loaded_model_is_the_saved_one(request, tmp_path, kind):
    fitted = request.getfixturevalue(kind)
    fitted.save(tmp_path / "model.npz")
    loaded = fbp.load_fitted(tmp_path)
    assert loaded.story == fitted.story
    assert loaded.model.encoder == fitted.model.encoder
    rows = np.random.default_rng(0).normal(size=(7, len(fitted.model.encoder.columns)))
    np.testing.assert_array_equal(loaded.predict(rows), fitted.predict(rows))


def test_no_part_of_the_file_is_pickled(classifier, tmp_path):
    classifier.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as stored:
        assert json.loads(str(stored["about"]))["model"]["task"] == "classification"
        assert all(stored[name].dtype.kind in "fU" for name in stored.files)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.npz: no such file: give the directory"):
        fbp.load_fitted(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"\0" * 100])
def test_a_damaged_model_is_refused(tmp_path, content):
    (tmp_path / "model.npz").write_bytes(content)
    with pytest.raises(InputError, match="not a model that fbp wrote, or damaged"):
        fbp.load_fitted(tmp_path)


def test_another_archive_is_refused(tmp_path):
    np.savez(tmp_path / "model.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="not a model that fbp wrote"):
        fbp.load_fitted(tmp_path)


def test_another_format_is_refused(tmp_path):
    np.savez(tmp_path / "model.npz", about=json.dumps({"format": 99}))
    with pytest.raises(InputError, match="of format 99, this version of fbp reads 1: fit anew"):
        fbp.load_fitted(tmp_path)


def test_a_full_disk_is_said(classifier):
    with pytest.raises(InputError, match="/dev/full: cannot be written"):
        classifier.save("/dev/full")
