"""`fbp.fit` beside scikit-learn's defaults, on the sets that come with a package.

    python -m benchmarks.fit [--sets iris wine ...] [--splits 5] [--first 0]

Every split keeps a quarter of the rows for the test (classes alike) and gives all contenders the
same rows. `fbp.fit` learns from three quarters and is measured on the quarter, with nothing set;
scikit-learn's MLPClassifier or MLPRegressor and HistGradientBoosting are at their defaults, on
standardised columns. Images go to `fbp.fit` as images, to the others as columns.

"not worse" means that the 95% interval of the mean difference over the splits (Student's t) does
not lie below zero. The splits overlap, so that the interval is rather too narrow.

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
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fbp
from fbp.data import bundled

Data = tuple[np.ndarray, np.ndarray]


def _mnist_5k() -> Data:
    source = bundled.mnist_5k()
    return np.asarray(source.x), source.y


def _digits() -> Data:
    x, y = _bundled(datasets.load_digits)
    return x.reshape(-1, 8, 8), y


def _bundled(load: Callable[..., Any]) -> Data:
    x, y = load(return_X_y=True)
    return np.asarray(x), np.asarray(y)


SETS: dict[str, Callable[[], Data]] = {
    "iris": lambda: _bundled(datasets.load_iris),
    "wine": lambda: _bundled(datasets.load_wine),
    "breast_cancer": lambda: _bundled(datasets.load_breast_cancer),
    "digits": _digits,
    "mnist_5k": _mnist_5k,
    "diabetes": lambda: _bundled(datasets.load_diabetes),
}
CONTENDERS = ("fbp.fit", "MLP", "HistGradientBoosting")


@dataclass(frozen=True)
class Measured:
    """Test score and seconds of one contender on one split."""

    score: float
    seconds: float


def measure(data: Data, split: int) -> dict[str, Measured]:
    """All contenders on one split."""
    x, y = data
    regression = y.dtype.kind == "f"
    parts: Any = train_test_split(
        x, y, test_size=0.25, random_state=split, stratify=None if regression else y
    )
    peers = {
        "MLP": neural_network.MLPRegressor if regression else neural_network.MLPClassifier,
        "HistGradientBoosting": ensemble.HistGradientBoostingRegressor
        if regression
        else ensemble.HistGradientBoostingClassifier,
    }
    found = {"fbp.fit": _timed(lambda: _fbp(parts, split))}
    for name, peer in peers.items():
        model = make_pipeline(StandardScaler(), peer(random_state=split))
        found[name] = _timed(lambda model=model: _scikit_learn(model, parts))
    return found


def _timed(score: Callable[[], float]) -> Measured:
    begin = time.perf_counter()
    return Measured(score(), time.perf_counter() - begin)


def _fbp(parts: Sequence[np.ndarray], seed: int) -> float:
    x, x_test, y, y_test = parts
    return fbp.fit(x, y, test=(x_test, y_test), seed=seed).story.score.value


def _scikit_learn(model, parts: Sequence[np.ndarray]) -> float:
    x, x_test, y, y_test = parts
    flat = lambda a: a.reshape(len(a), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLP's default number of epochs does not converge
        return model.fit(flat(x), y).score(flat(x_test), y_test)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95% interval by Student's t.

    >>> mean, low, high = interval([1.0, 2.0, 3.0])
    >>> round(low, 2), round(high, 2)
    (-0.48, 4.48)
    """
    mean, count = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def row(name: str, runs: Sequence[dict[str, Measured]]) -> str:
    """The line of a data set in the table."""
    scores = {who: [run[who].score for run in runs] for who in CONTENDERS}
    cells = [
        f"{mean:.4f} [{low:.4f}, {high:.4f}]" for mean, low, high in map(interval, scores.values())
    ]
    verdicts = [_verdict(scores["fbp.fit"], scores[peer]) for peer in CONTENDERS[1:]]
    seconds = [f"{np.mean([run[who].seconds for run in runs]):.1f}" for who in CONTENDERS]
    return f"| {name} | {' | '.join([*cells, *verdicts, ' / '.join(seconds)])} |"


def _verdict(ours: Sequence[float], theirs: Sequence[float]) -> str:
    mean, low, high = interval(np.subtract(ours, theirs).tolist())
    word = "**worse**" if high < 0 else "better" if low > 0 else "not worse"
    return f"{word}: {mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    peers = " | ".join(f"fbp beside {peer}" for peer in CONTENDERS[1:])
    print(f"| set | {' | '.join(CONTENDERS)} | {peers} | seconds |")
    print("|---|" + "---|" * 6)
    for name in arguments.sets:
        data = SETS[name]()
        runs = []
        for split in range(arguments.first, arguments.first + arguments.splits):
            runs.append(measure(data, split))
            scores = ", ".join(f"{who} {run.score:.4f}" for who, run in runs[-1].items())
            print(f"{name}, split {split}: {scores}", file=sys.stderr, flush=True)
        print(row(name, runs), flush=True)


if __name__ == "__main__":
    main()
