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
    with pytest.raises(InputError, match="of format 99, this version of fbp reads 2: fit anew"):
        fbp.load_fitted(tmp_path)


def test_a_full_disk_is_said(classifier):
    with pytest.raises(InputError, match="/dev/full: cannot be written"):
        classifier.save("/dev/full")


def altered(classifier, tmp_path, change):
    classifier.save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    about = json.loads(str(arrays["about"]))
    change(arrays, about)
    np.savez(tmp_path / "model.npz", **(arrays | {"about": json.dumps(about)}))
    return tmp_path


def first_parameter(arrays):
    return next(name for name in arrays if name.startswith("members/"))


@pytest.mark.parametrize(
    "change",
    [
        lambda a, _: a.update({first_parameter(a): np.full_like(a[first_parameter(a)], np.nan)}),
        lambda a, _: a.update({first_parameter(a): np.full(a[first_parameter(a)].shape, "x")}),
        lambda a, _: a.update({first_parameter(a): a[first_parameter(a)][:, :1]}),
        lambda a, _: a.update({"classes": a["classes"][:2]}),
        lambda _, about: about["model"].update(mean="word"),
        lambda _, about: about["model"].update(std=float("nan")),
        lambda _, about: about["model"].update(task="clustering"),
        lambda _, about: about["model"]["encoder"]["columns"][0].update(mean=float("inf")),
        lambda _, about: about["model"]["encoder"]["columns"][0].update(std=0.0),
        lambda _, about: about["model"]["encoder"]["columns"][0].update(std="wide"),
        lambda _, about: about["model"]["architecture"].update(widths=[10**9, 4]),
        lambda _, about: about["model"].pop("layers"),
    ],
)
def test_an_altered_model_is_refused_in_one_line(classifier, tmp_path, change):
    with pytest.raises(InputError, match="not a model that fbp wrote, or damaged") as caught:
        fbp.load_fitted(altered(classifier, tmp_path, change))
    assert "\n" not in str(caught.value)


def test_the_model_is_saved_though_the_page_cannot_be_drawn(classifier, tmp_path, monkeypatch):
    from fbp.automl import directory, page

    monkeypatch.setattr(page, "story_page", lambda *_: 1 / 0)
    with pytest.raises(InputError, match="the model is saved, but its page cannot be drawn"):
        directory.write(tmp_path / "run", classifier, "fbp predict")
    assert fbp.load_fitted(tmp_path / "run").story == classifier.story
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["verdict"]
