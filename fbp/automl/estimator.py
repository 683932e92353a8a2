"""`fbp.fit` as estimators of scikit-learn, which has to be installed."""

from typing import Any, Self

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import (
    assert_all_finite,
    check_consistent_length,
    check_random_state,
    column_or_1d,
    compute_sample_weight,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fbp.automl import fit
from fbp.automl.fitted import Fitted
from fbp.data.dataset import Task


class _Estimator(BaseEstimator):
    """What both estimators share: all rows are learnt from, none is kept for a test."""

    random_state: Any

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags

    def _learn(self, x: Any, y: Any, task: Task, sample_weight: Any) -> Self:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.fitted_ = fit(x, y, task=task, test=0, seed=seed, sample_weight=sample_weight)
        return self

    def _pair(self, x: Any, y: Any, dtype: Any = None) -> tuple[Any, Any]:
        """Return checked rows and targets."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        x = _checked(self, x, reset=True)
        y = column_or_1d(y, dtype=dtype, warn=True)
        assert_all_finite(y)
        check_consistent_length(x, y)
        return x, y

    def _rows(self, x: Any) -> Any:
        check_is_fitted(self)
        return _checked(self, x, reset=False)


def _checked(estimator: BaseEstimator, x: Any, *, reset: bool) -> Any:
    """Return a data frame as it is, else an array of numbers, or of objects among words."""
    if hasattr(x, "columns") and hasattr(x, "dtypes") and not hasattr(x, "sparse_index"):
        validate_data(estimator, x, reset=reset, skip_check_array=True)
        if len(x):
            return x
    array = validate_data(
        estimator, x, dtype=None, ensure_all_finite="allow-nan", reset=reset, ensure_2d=True
    )
    array = np.asarray(array)
    if array.dtype.kind == "c":
        raise ValueError("Complex data not supported")
    return array


class FbpClassifier(ClassifierMixin, _Estimator):
    """A classifier with nothing to tune: `fbp.fit` on all rows.

    `x` is an array `(rows, columns)` of numbers or of numbers and words, or a data frame. Missing
    values (NaN, None) are accepted.

    Args:
      random_state: a seed, a `RandomState`, or None.
      class_weight: a weight for each class, or `balanced`: n / (classes * rows of the class).

    Attributes:
      classes_: the classes, sorted.
      n_features_in_: the number of columns.
      fitted_: what `fbp.fit` returned, with the story of the training.

    >>> from sklearn.datasets import load_iris
    >>> x, y = load_iris(return_X_y=True)
    >>> FbpClassifier(random_state=0).fit(x, y).score(x, y) > 0.9
    True
    """

    classes_: Shaped[np.ndarray, " classes"]
    fitted_: Fitted

    def __init__(self, random_state: Any = None, class_weight: Any = None):
        self.random_state = random_state
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from rows and their classes; raise ValueError where they cannot be learnt from.

        Args:
          X, y: rows and classes.
          sample_weight: how much each row counts; rows of weight 0 are left out.
        """
        X, y = self._pair(X, y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        weights = sample_weight
        if sample_weight is not None or self.class_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, y)
        return self._learn(X, numbers, "classification", weights)

    def predict(self, X: Any) -> Shaped[np.ndarray, " rows"]:
        """Return the likeliest class of each row."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """Return the probability of each class, in the order of `classes_`."""
        rows = self._rows(X)
        known = self.fitted_.model.classes  # of weight 0 throughout, a class is not learnt
        probabilities = np.zeros((len(rows), len(self.classes_)))
        probabilities[:, known] = self.fitted_.predict_proba(rows)
        return probabilities


class FbpRegressor(RegressorMixin, _Estimator):
    """A regressor with nothing to tune: `fbp.fit` on all rows.

    `x` is an array `(rows, columns)` of numbers or of numbers and words, or a data frame. Missing
    values (NaN, None) are accepted.

    Args:
      random_state: a seed, a `RandomState`, or None.

    Attributes:
      n_features_in_: the number of columns.
      fitted_: what `fbp.fit` returned, with the story of the training.

    >>> from sklearn.datasets import make_regression
    >>> x, y = make_regression(n_samples=80, n_features=3, random_state=0)
    >>> FbpRegressor(random_state=0).fit(x, y).score(x, y) > 0.9
    True
    """

    fitted_: Fitted

    def __init__(self, random_state: Any = None):
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from rows and their numbers; raise ValueError where they cannot be learnt from.

        Args:
          X, y: rows and numbers.
          sample_weight: how much each row counts; rows of weight 0 are left out.
        """
        X, y = self._pair(X, y, np.float64)
        weights = sample_weight
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        return self._learn(X, y, "regression", weights)

    def predict(self, X: Any) -> Float[np.ndarray, " rows"]:
        """Return the number predicted for each row."""
        rows = self._rows(X)
        return self.fitted_.predict(rows)
