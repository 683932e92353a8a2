"""scikit-learn's own checks: all of them in the slow run, the short ones every day."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from fbp.fit.estimator import FbpClassifier, FbpRegressor

EVERY_DAY = {
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_dict_unchanged",
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
ESTIMATORS = (FbpClassifier(random_state=0), FbpRegressor(random_state=0))


def checks():
    for estimator in ESTIMATORS:
        for number, (_, check) in enumerate(estimator_checks_generator(estimator)):
            name = getattr(check, "func", check).__name__
            marks = () if name in EVERY_DAY else pytest.mark.slow
            identity = f"{type(estimator).__name__}-{name}-{number}"
            yield pytest.param(estimator, check, marks=marks, id=identity)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_every_name_of_the_everyday_run_is_a_check():
    names = {getattr(p.values[1], "func", p.values[1]).__name__ for p in checks()}
    assert names >= EVERY_DAY


def test_it_fits_into_a_pipeline_and_cross_validation(flowers):
    pipeline = make_pipeline(MinMaxScaler(), FbpClassifier(random_state=0))
    assert cross_val_score(pipeline, *flowers, cv=3).mean() > 0.9


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
