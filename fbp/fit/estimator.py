"""`fbp.fit` as estimators of scikit-learn, which has to be installed."""

from typing import Any, Self

import numpy as np
from jaxtyping import Float, Num, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fbp.data.dataset import Task
from fbp.fit import fit
from fbp.fit.fitted import Fitted


class _Estimator(BaseEstimator):
    """What both estimators share: all rows are learnt from, none is kept for a test."""

    def __init__(self, random_state: Any = None):
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.non_deterministic = False
        return tags

    def _learn(self, x: Any, y: Any, task: Task) -> Self:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.fitted_ = fit(x, y, task=task, test=0, seed=seed)
        return self

    def _rows(self, x: Any) -> Num[np.ndarray, "rows columns"]:
        check_is_fitted(self)
        return np.asarray(
            validate_data(self, x, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        )


class FbpClassifier(ClassifierMixin, _Estimator):
    """A classifier with nothing to tune: `fbp.fit` on all rows.

    Missing values (NaN) are accepted. `x` is an array `(rows, columns)` of numbers.

    Args:
      random_state: a seed, a `RandomState`, or None.

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

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows and their classes; raises ValueError where they cannot be learnt from."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        return self._learn(X, numbers, "classification")

    def predict(self, X: Any) -> Shaped[np.ndarray, " rows"]:
        """The likeliest class of each row."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """The probability of each class, in the order of `classes_`."""
        rows = self._rows(X)
        return self.fitted_.predict_proba(rows)


class FbpRegressor(RegressorMixin, _Estimator):
    """A regressor with nothing to tune: `fbp.fit` on all rows.

    Missing values (NaN) are accepted. `x` is an array `(rows, columns)` of numbers.

    Args:
      random_state: a seed, a `RandomState`, or None.

    Attributes:
      n_features_in_: the number of columns.
      fitted_: what `fbp.fit` returned, with the story of the training.

    >>> from sklearn.datasets import load_diabetes
    >>> x, y = load_diabetes(return_X_y=True)
    >>> FbpRegressor(random_state=0).fit(x, y).score(x, y) > 0.4
    True
    """

    fitted_: Fitted

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows and their numbers; raises ValueError where they cannot be learnt from."""
        X, y = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", y_numeric=True
        )
        return self._learn(X, np.asarray(y, np.float64), "regression")

    def predict(self, X: Any) -> Float[np.ndarray, " rows"]:
        """The number predicted for each row."""
        rows = self._rows(X)
        return self.fitted_.predict(rows)
