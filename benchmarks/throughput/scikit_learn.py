"""scikit-learn's MLPClassifier."""

from collections.abc import Callable

from sklearn.neural_network import MLPClassifier

from benchmarks.throughput.work import B1, B2, BATCH, CLASSES, EPSILON, Work


def mlp_classifier(work: Work) -> Callable[[], None]:
    """`partial_fit` on as many rows as the steps need, which shuffles them; some of the trials."""
    rows = work.orders[0].ravel()
    x, y, classes = work.x[rows], work.y[rows], list(range(CLASSES))

    def run() -> None:
        for rate, seed in work.some_trials:
            MLPClassifier(
                (work.hidden,),
                solver="adam",
                alpha=0.0,
                batch_size=BATCH,  # pyright: ignore[reportArgumentType]
                learning_rate_init=rate,
                beta_1=B1,
                beta_2=B2,
                epsilon=EPSILON,
                random_state=seed,
            ).partial_fit(x, y, classes=classes)

    return run
