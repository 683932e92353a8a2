"""`fbp fit` and `fbp predict`: files in, a directory out, and one line for what is wrong."""

import contextlib
import csv
import io
import json
import wave
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import fbp
from fbp.automl.directory import check_free
from fbp.automl.encode import ImageEncoder, SoundEncoder
from fbp.automl.fitted import Fitted
from fbp.automl.sources import read_labeled, read_unlabeled
from fbp.cli import main
from fbp.errors import InputError

NAMES = ["sepal length", "sepal width", "petal length", "petal width", "kind"]


def write_csv(path, rows, header=NAMES):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory, flowers):
    rows = [[*x, y] for x, y in zip(*flowers, strict=True)]
    return write_csv(tmp_path_factory.mktemp("data") / "iris.csv", rows)


@pytest.fixture(scope="module")
def run(table):
    out = table.parent / "run"
    outcome = io.StringIO()
    with contextlib.redirect_stdout(outcome):
        assert main(["fit", str(table), "--target", "kind", "--out", str(out), "--json"]) == 0
    assert json.loads(outcome.getvalue())["report"] == str(out / "report.html")
    return out


def test_a_fit_leaves_a_model_its_story_and_a_page(run):
    assert sorted(path.name for path in run.iterdir()) == ["fit.json", "model.npz", "report.html"]
    story = json.loads((run / "fit.json").read_text())
    assert story["verdict"] == fbp.load_fitted(run).story.verdict
    assert story["rate"] in [tried["rate"] for tried in story["rates"]]
    assert story["environment"]["versions"]["jax"]


def test_predictions_are_the_models(run, table, flowers, tmp_path, capsys):
    assert main(["predict", str(run), str(table), "--out", str(tmp_path / "p.csv")]) == 0
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["example"] for row in rows] == [str(n) for n in range(1, 151)]
    assert np.mean([row["kind"] for row in rows] == flowers[1]) > 0.9
    assert all(
        sum(float(row[f"probability of {kind}"]) for kind in set(flowers[1]))
        == pytest.approx(1, abs=1e-5)
        for row in rows
    )
    assert main(["predict", str(run), str(table)]) == 0
    assert (tmp_path / "p.csv").read_text() in capsys.readouterr().out


def test_predictions_in_a_directory_and_as_json(run, table, tmp_path, capsys):
    assert main(["predict", str(run), str(table), "--out", str(tmp_path / "new"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    with (tmp_path / "new" / "predictions.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == [row["kind"] for row in written]
    names = [name for name in rows[0] if name.startswith("probability of")]
    assert len(names) == 3
    assert all(sum(row[name] for name in names) == pytest.approx(1, abs=1e-5) for row in rows)


def test_a_former_fit_is_kept_unless_overwritten(run, table, fbp_fails):
    before = (run / "model.npz").read_bytes()
    assert "holds a fit already" in fbp_fails("fit", table, "--target", "kind", "--out", run)
    message = fbp_fails("fit", table, "--target", "no", "--out", run, "--overwrite")
    assert "no column 'no'" in message
    assert (run / "model.npz").read_bytes() == before
    check_free(run, overwrite=True)


def test_a_directory_of_other_files_is_never_used(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds files that are not a fit's"):
        check_free(tmp_path, overwrite=True)


def test_a_former_prediction_is_kept_unless_overwritten(run, table, tmp_path, fbp_fails):
    (tmp_path / "p.csv").write_text("mine")
    message = fbp_fails("predict", run, table, "--out", tmp_path / "p.csv")
    assert "is there already: give another --out, or --overwrite" in message
    assert (tmp_path / "p.csv").read_text() == "mine"


def test_other_columns_are_refused_at_prediction(run, tmp_path, fbp_fails):
    path = write_csv(tmp_path / "other.csv", [[1, 2, 3, 4]], [*NAMES[:3], "width"])
    message = fbp_fails("predict", run, path)
    assert "no column petal width: give sepal length" in message


def test_words_among_numbers_count_as_missing_and_are_noted(run, tmp_path, capsys):
    path = write_csv(tmp_path / "other.csv", [[1, 2, 3, "red"]], NAMES[:4])
    assert main(["predict", str(run), str(path)]) == 0
    assert (
        "petal width: 1 cell with what cannot be read, taken as missing, first 'red' in row 1 ("
        in (capsys.readouterr().err)
    )


ROWS = [[i, i % 3, 0.5, 1, "ab"[i % 2]] for i in range(20)]


@pytest.mark.parametrize(
    ("rows", "target", "message"),
    [
        (ROWS, "weight", "no column 'weight': give --target, one of sepal length, sepal width"),
        (ROWS, None, "no target column is named: give --target"),
        ([[*row[:4], "a"] for row in ROWS], "kind", "kind: only one class, a"),
        ([[*row[:4], 1.5] for row in ROWS], "kind", "kind: 1.5 in every row"),
        ([[*row[:4], ""] for row in ROWS], "kind", "kind: no row has a value"),
        (ROWS[:3], "kind", "too few rows, n_samples = 3"),
        ([], "kind", "a header but no row"),
        ([*ROWS, [1, 2]], "kind", "line 22 has 2 cells, the header 5"),
    ],
)
def test_a_table_that_cannot_be_learnt_is_one_line_and_status_2(
    tmp_path, fbp_fails, rows, target, message
):
    path = write_csv(tmp_path / "bad.csv", rows)
    options = [] if target is None else ["--target", target]
    assert message in fbp_fails("fit", path, *options, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_empty_file_is_one_line_and_status_2(tmp_path, fbp_fails):
    (tmp_path / "empty.csv").touch()
    message = fbp_fails("fit", tmp_path / "empty.csv", "--target", "y", "--out", tmp_path / "run")
    assert "empty.csv: the file is empty" in message


def test_missing_data_and_a_missing_model_are_one_line_and_status_2(tmp_path, fbp_fails):
    assert "no such file or directory" in fbp_fails("fit", tmp_path / "absent")
    assert "no such file: give the directory" in fbp_fails("predict", tmp_path, tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("suffix", "message"), [("png", "not a PNG or JPEG image"), ("wav", "not a WAV")]
)
def test_a_damaged_image_or_sound_is_one_line_and_status_2(tmp_path, fbp_fails, suffix, message):
    for kind in "ab":
        (tmp_path / "data" / kind).mkdir(parents=True)
        (tmp_path / "data" / kind / f"1.{suffix}").write_bytes(b"nothing of the kind")
    assert message in fbp_fails("fit", tmp_path / "data", "--out", tmp_path / "run")


def test_images_in_folders_are_read_with_their_classes(tmp_path):
    for kind, level in (("dark", 10), ("light", 200)):
        (tmp_path / kind).mkdir()
        for i in range(3):
            Image.fromarray(np.full((9, 8), level + i, np.uint8)).save(tmp_path / kind / f"{i}.png")
    given = read_labeled(tmp_path, None)
    assert given.x.pixels.shape == (6, 9, 8, 1)
    assert given.y.values.tolist() == ["dark"] * 3 + ["light"] * 3
    encoder = ImageEncoder((9, 8, 1), 0.0, 1.0)
    assert read_unlabeled(tmp_path, encoder, "class").names[0] == "dark/0.png"
    assert read_unlabeled(tmp_path / "dark", encoder, "class").names == ("0.png", "1.png", "2.png")
    assert read_unlabeled(tmp_path / "dark" / "0.png", encoder, "class").names == ("0.png",)


def test_sounds_in_folders_are_read_at_the_models_rate(tmp_path):
    for kind in "ab":
        (tmp_path / kind).mkdir()
        with wave.open(str(tmp_path / kind / "1.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(b"\1\0" * 1600)
    given = read_labeled(tmp_path, None)
    assert (given.x.rate, len(given.x), given.y.values.tolist()) == (16000, 2, ["a", "b"])
    encoder = SoundEncoder(8000, None)  # pyright: ignore[reportArgumentType]
    assert read_unlabeled(tmp_path, encoder, "class").x.rate == 8000


def test_arrays_with_a_published_test_keep_it(tmp_path):
    parts = {"x_train": np.zeros((12, 2)), "y_train": np.arange(12) % 2}
    np.savez(tmp_path / "d.npz", x_test=np.ones((4, 2)), y_test=np.arange(4) % 2, **parts)
    given = read_labeled(tmp_path / "d.npz", None)
    assert given.test is not None
    assert (len(given.x), len(given.test[0])) == (12, 4)
    assert given.test[0].columns[0].tolist() == [1, 1, 1, 1]


def test_idx_files_are_read_as_images_with_their_test(tmp_path):
    def write(name, array):
        head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        (tmp_path / name).write_bytes(head + array.astype(np.uint8).tobytes())

    for part, rows in (("train", 12), ("t10k", 6)):
        write(f"{part}-images-idx3-ubyte", np.full((rows, 8, 8), rows))
        write(f"{part}-labels-idx1-ubyte", np.arange(rows) % 2)
    given = read_labeled(tmp_path, None)
    assert (len(given.x), len(given.test[1])) == (12, 6)
    images = read_unlabeled(tmp_path / "t10k-images-idx3-ubyte", ImageEncoder((8, 8, 1), 0, 1), "y")
    assert len(images.names) == 6


def test_a_target_column_is_of_a_table_only(tmp_path, fbp_fails):
    assert "only a table has a target column" in fbp_fails("fit", tmp_path, "--target", "y")


def test_predictions_that_begin_like_a_formula_are_noted(classifier, tmp_path, capsys):
    classes = np.array(["=cmd()", "versicolor", "virginica"])
    Fitted(replace(classifier.model, classes=classes), classifier.story).save(
        tmp_path / "model.npz"
    )
    rows = tmp_path / "rows.csv"
    rows.write_text("column 0,column 1,column 2,column 3\n5.1,3.5,1.4,0.2\n")
    assert main(["predict", str(tmp_path), str(rows)]) == 0
    out, err = capsys.readouterr()
    assert "1,=cmd()," in out
    assert "note: '=cmd()' begins like a formula" in err


def test_the_task_may_be_named_by_what_is_predicted(tmp_path, fbp_fails):
    path = write_csv(tmp_path / "t.csv", [[*row[:4], "a"] for row in ROWS])
    message = fbp_fails(
        "fit", path, "--target", "kind", "--task", "numbers", "--out", tmp_path / "r"
    )
    assert "kind: a regression needs numbers" in message
