"""A fit from end to end: it learns, reproducibly, and says what it did."""

import json

import numpy as np
import pytest

import fbp
from fbp.automl.inputs import Sounds
from fbp.automl.store import story_as_data
from fbp.errors import InputError


def test_it_learns_classes(classifier, flowers):
    x, y = flowers
    assert classifier.story.score.value > 0.85
    assert classifier.score(x, y) > 0.95
    assert set(classifier.predict(x)) == set(y)
    np.testing.assert_allclose(classifier.predict_proba(x).sum(axis=1), 1, rtol=1e-6)


def test_it_learns_numbers_in_their_own_unit(regressor, regression):
    x, y = regression
    assert regressor.story.score.value > 0.9
    assert np.abs(regressor.predict(x) - y).mean() < 0.1 * y.std() + 10


def test_the_story_of_the_test_is_that_of_the_model(classifier):
    story = classifier.story
    score = story.score
    assert (story.rows, score.rows, score.part) == (120, 30, "test")
    assert score.value == np.mean(np.equal(story.truth, story.predicted))
    assert score.low < score.value <= score.high
    assert score.constant == pytest.approx(1 / 3)


def test_the_rate_chosen_has_the_lowest_mean_validation_loss(classifier):
    story = classifier.story
    assert story.rate == min(story.rates, key=lambda tried: tried.mean_loss).rate
    assert min(map(min, story.curve.validation)) == pytest.approx(
        min(loss for tried in story.rates if tried.rate == story.rate for loss in tried.losses)
    )


def test_the_range_test_suggests_a_rate_between_its_ends(classifier):
    test = classifier.story.range_test
    assert test.rates[0] < test.suggestion < test.rates[-1]
    assert min(test.losses) < 0.5 * test.losses[0]


def test_the_same_seed_gives_the_same_model(regressor, regression):
    again = fbp.fit(*regression, target_name="height")
    np.testing.assert_array_equal(again.predict(regression[0]), regressor.predict(regression[0]))


def test_another_seed_gives_another_model(regressor, regression):
    other = fbp.fit(*regression, seed=1)
    assert not np.array_equal(other.predict(regression[0]), regressor.predict(regression[0]))


def test_a_prediction_does_not_depend_on_the_rows_beside_it(classifier, flowers):
    x, _ = flowers
    one_by_one = np.concatenate([classifier.predict_proba(row[None]) for row in x[::10]])
    np.testing.assert_array_equal(one_by_one, classifier.predict_proba(x)[::10])


def test_what_cannot_be_learnt_is_said():
    rng = np.random.default_rng(0)
    verdict = fbp.fit(rng.normal(size=(120, 3)), rng.normal(size=120)).story.verdict
    assert verdict.startswith(("Nothing was learnt about y: ", "It is not sure that y can be "))


def test_the_test_may_be_given(flowers):
    x, y = flowers
    fitted = fbp.fit(x[::2], y[::2], test=(x[1::2], y[1::2]))
    assert (fitted.story.rows, fitted.story.score.rows) == (75, 75)
    assert fitted.story.score.value == fitted.score(x[1::2], y[1::2])


def test_without_a_test_the_score_is_cross_validated(flowers):
    story = fbp.fit(*flowers, test=0).story
    assert (story.rows, story.score.rows, story.score.part) == (150, 150, "validation")
    assert any(note.startswith("No rows were kept for a test") for note in story.notes)
    assert story.verdict.startswith("y is predicted with cross-validated accuracy ")


@pytest.mark.slow
def test_images_are_told_apart():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (90, 8, 8)).astype(np.uint8)
    kinds = rng.integers(0, 2, 90)
    rows = rng.integers(1, 7, 90)
    for image, kind, row in zip(images, kinds, rows, strict=True):
        line = image[row] if kind else image[:, row]
        line[:] = 255
    fitted = fbp.fit(images, np.where(kinds, "lying", "standing"))
    assert fitted.story.inputs == "images of 8 x 8 pixels"
    assert fitted.story.plan.short_search
    assert fitted.story.score.value > 0.9


@pytest.mark.slow
def test_sounds_are_told_apart():
    rng = np.random.default_rng(0)
    pitches = np.where(np.arange(60) % 2, 300, 1200)
    waves = tuple(
        np.sin(2 * np.pi * pitch * np.arange(rng.integers(800, 3000)) / 8000).astype(np.float32)
        for pitch in pitches * rng.uniform(0.8, 1.25, 60)
    )
    fitted = fbp.fit(Sounds(waves, 8000), np.where(pitches > 500, "high", "low"))
    assert fitted.story.score.value > 0.9
    assert fitted.predict(Sounds(waves[:2], 8000)).tolist() == ["high", "low"]


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros((4, 2)), [0, 1, 0, 1], {}, "too few rows, n_samples = 4"),
        (np.zeros((9, 2)), [0, 1], {}, "x has 9 rows, y 2"),
        (np.zeros((9, 2)), [0, 1, 0] * 3, {}, "no column can be used: column 0 is 0 in every row"),
        (np.zeros((9, 2)), [0, 1, 0] * 3, {"sample_weight": [1]}, "sample_weight has shape"),
        (np.zeros((9, 2)), [0] * 9, {}, "only one class, 0"),
        (np.zeros((9, 2)), [0.5] * 9, {}, "0.5 in every row"),
        (np.zeros((9, 2)), [0, 1, 0] * 3, {"test": 1.5}, "test is 1.5"),
        (np.eye(9), ["a", "b", "a"] * 3, {"test": (np.zeros((1, 9)), ["c"])}, "holds c"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, y, options, message):
    with pytest.raises(InputError, match=message):
        fbp.fit(x, y, **options)


def test_a_regression_has_no_probabilities(regressor):
    with pytest.raises(InputError, match="a regression has no probabilities"):
        regressor.predict_proba(np.zeros((1, 2)))


@pytest.mark.parametrize("rows", [pytest.param(5, marks=pytest.mark.slow), 9])
def test_few_rows_are_learnt_from(rows):
    x = np.linspace(-1, 1, rows)[:, None]
    classes = fbp.fit(x, np.where(x[:, 0] > 0, "right", "left"))
    assert set(classes.predict(x)) <= {"left", "right"}
    assert len(classes.story.curve.training) == min(5, classes.story.rows)
    numbers = fbp.fit(x, 3 * x[:, 0] + 0.5)
    assert np.isfinite(numbers.predict(x)).all()
    assert json.loads(json.dumps(story_as_data(numbers.story), allow_nan=False))["score"]["rows"]


def test_a_test_of_equal_targets_is_scored_by_its_error(regression):
    x, y = regression
    fitted = fbp.fit(x, y, test=(x[:3], [7.0] * 3))
    assert fitted.story.score.value is None
    assert fitted.story.verdict.startswith("How well y is predicted cannot be said, since the tar")
    assert f"{fitted.story.score.error:.4g}" in fitted.story.verdict


def test_each_class_has_its_precision_recall_and_area(classifier):
    score = classifier.story.score
    truth, predicted = np.array(classifier.story.truth), np.array(classifier.story.predicted)
    for number, one in enumerate(score.classes):
        assert one.rows == 10
        assert one.recall == pytest.approx(np.mean(predicted[truth == number] == number))
        assert one.precision == pytest.approx(np.mean(truth[predicted == number] == number))
        assert 0.9 < one.auc <= 1
    assert score.balanced == pytest.approx(np.mean([one.recall for one in score.classes]))


def test_rows_without_a_target_are_left_out_and_counted(regression):
    x, y = regression
    holed = [None if i < 3 else value for i, value in enumerate(y)]
    fitted = fbp.fit(x, holed)
    assert fitted.story.rows + fitted.story.score.rows == len(y) - 3
    assert "3 rows without a value of y left out: the first is row 1." in fitted.story.notes
