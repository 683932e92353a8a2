"""scikit-learn's own checks: all of them in the slow run, the short ones every day."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from fbp.automl.estimator import FbpClassifier, FbpRegressor

WEIGHTS = "repeated rows come in other batches than weighted ones: the model is another"
FAILS = {"check_sample_weight_equivalence_on_dense_data": WEIGHTS}
EVERY_DAY = {
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_estimator_cloneable",
    "check_estimator_sparse_array",
    "check_estimators_unfitted",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_n_features_in",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_supervised_y_no_nan",
    "check_valid_tag_types",
}
OF_BOTH_ALIKE = {"check_n_features_in"}
"""It fits, and looks at what both estimators have from one class: every day for one of them."""

ESTIMATORS = (FbpClassifier(random_state=0), FbpRegressor(random_state=0))


def checks():
    for estimator in ESTIMATORS:
        for number, (_, check) in enumerate(estimator_checks_generator(estimator)):
            name = getattr(check, "func", check).__name__
            twice = name in OF_BOTH_ALIKE and estimator is ESTIMATORS[0]
            marks = [] if name in EVERY_DAY and not twice else [pytest.mark.slow]
            if name in FAILS:
                marks.append(pytest.mark.xfail(reason=FAILS[name], strict=True))
            identity = f"{type(estimator).__name__}-{name}-{number}"
            yield pytest.param(estimator, check, marks=marks, id=identity)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_every_name_of_the_everyday_run_is_a_check():
    names = {getattr(p.values[1], "func", p.values[1]).__name__ for p in checks()}
    assert names >= EVERY_DAY


def test_it_fits_into_a_pipeline(flowers):
    pipeline = make_pipeline(MinMaxScaler(), FbpClassifier(random_state=0))
    assert pipeline.fit(*flowers).score(*flowers) > 0.9


@pytest.mark.slow
def test_it_fits_into_cross_validation(flowers):
    pipeline = make_pipeline(MinMaxScaler(), FbpClassifier(random_state=0))
    assert cross_val_score(pipeline, *flowers, cv=2).mean() > 0.9


def test_missing_values_are_accepted(regression):
    x, y = regression
    holed = x.copy()
    holed[::10, 0] = np.nan
    assert FbpRegressor(random_state=0).fit(holed, y).score(x, y) > 0.7


def test_the_package_imports_scikit_learn_and_matplotlib_only_when_they_are_needed():
    program = (
        "import sys, fbp\n"
        "heavy = {'sklearn', 'matplotlib', 'optax', 'tqdm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert fbp.FbpClassifier.__name__ == 'FbpClassifier'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_words_and_data_frames_are_accepted(flowers):
    x, y = flowers
    frame = pd.DataFrame(x, columns=list("abcd")).assign(e=np.where(x[:, 0] > 5.8, "big", None))
    model = FbpClassifier(random_state=0).fit(frame, y)
    assert model.score(frame, y) > 0.9
    assert list(model.feature_names_in_) == list("abcde")
    objects = frame.astype(object).to_numpy()
    np.testing.assert_array_equal(model.predict(frame)[:20], model.predict(objects[:20]))


@pytest.mark.slow
def test_weights_move_the_decision_towards_the_rare_class():
    rng = np.random.default_rng(0)
    rare = rng.random(150) < 0.12
    x = rng.normal(size=(150, 4)) + rare[:, None] * 0.7
    plain = FbpClassifier(random_state=0).fit(x, rare)
    balanced = FbpClassifier(random_state=0, class_weight="balanced").fit(x, rare)
    by_hand = FbpClassifier(random_state=0).fit(
        x, rare, np.where(rare, 150 / rare.sum(), 150 / (~rare).sum())
    )
    assert balanced.predict(x).sum() > 1.5 * plain.predict(x).sum()
    np.testing.assert_allclose(balanced.predict_proba(x), by_hand.predict_proba(x), atol=1e-3)


def test_rows_of_weight_zero_are_left_out(flowers):
    x, y = flowers
    weights = (y != "setosa").astype(float)
    model = FbpClassifier(random_state=0).fit(x, y, weights)
    assert not model.predict_proba(x)[:, 0].any()
    assert model.fitted_.story.rows == 100
