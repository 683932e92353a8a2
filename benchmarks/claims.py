"""How often `fbp compare` claims a difference that is none, and how often it sees one.

Runs are put together from a pool that fbp trains here: 400 seeds at each of 7 rates of an MLP on
scikit-learn's digits. Two draws of other seeds from the same rates are two runs of the same
method: every claim between them is false, by the whole way from the choice of the rate on. Half
of the 1,000 comparisons are paired (as if the seeds were the same), and both measures, the
accuracy and the steps to the target, are corrected together. For the power the accuracies of one
run are raised by one standard deviation over seeds, and the exact paired permutation test of the
means on the same scores stands beside.

    python -m benchmarks.claims [--comparisons N]

takes about two minutes on two cores. Goals: the one-sided 95 % bound of false claims in 1,000
comparisons is at most 6.5 %; the power is at least 0.8 of the exact paired test's.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import stats

from fbp import sweep
from fbp.records import read_records
from fbp.report.claims import Entrant, choices, claims
from fbp.report.measures import measures_of
from fbp.report.trials import TrialHistory, trials

POOL, SEEDS = 400, 25  # of 25 seeds, 5 choose the rate and 20 are compared
MOST_FALSE, LEAST_POWER = 0.065, 0.8
CONFIG = {
    "name": "pool",
    "data": {"name": "digits"},
    "network": {"kind": "mlp", "widths": [16]},
    "optimizer": {"name": "sgd"},
    "train": {"steps": 150, "batch_size": 32, "evaluate_every": 25, "target": 0.8},
    "sweep": {"learning_rate": {"low": 0.03, "high": 3.0, "count": 7}, "seeds": POOL},
}
Pool = Mapping[int, Sequence[TrialHistory]]


def main() -> int:
    """Print the table; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=1000)
    comparisons = parser.parse_args().comparisons
    pool = trained_pool()
    rng = np.random.default_rng(0)
    false = sum(is_told(pool, rng, paired=bool(i % 2)) for i in range(comparisons))
    bound = stats.binomtest(false, comparisons, alternative="less").proportion_ci(0.95).high
    print(f"false claims  {false} of {comparisons}, at most {bound:.1%} (goal {MOST_FALSE:.1%})")
    seen, exact = power(pool, rng, comparisons // 4)
    print(f"power         {seen:.2f}, exact paired test {exact:.2f}, ratio {seen / exact:.2f}")
    return int(bound > MOST_FALSE or seen < LEAST_POWER * exact)


def trained_pool() -> Pool:
    """Train the pool; return each seed's trials."""
    with tempfile.TemporaryDirectory() as directory:
        sweep.run(CONFIG, out=Path(directory) / "pool")
        histories = trials(read_records(Path(directory) / "pool"), ("loss", "accuracy"))
    return {seed: [t for t in histories if t.seed == seed] for seed in range(POOL)}


def entrant(name: str, pool: Pool, seeds: Sequence[int], first: int) -> Entrant:
    """Return a run of these seeds, numbered from `first`."""
    renamed = (replace(t, seed=first + i, test=None) for i, s in enumerate(seeds) for t in pool[s])
    measures = measures_of({"task": "classification", "metric": "accuracy"})
    return Entrant(name, tuple(renamed), measures, CONFIG["train"]["target"], at_edge=False)


def draw(pool: Pool, rng: np.random.Generator, *, paired: bool) -> tuple[Entrant, Entrant]:
    """Draw two runs of one method, of seeds that differ."""
    seeds = rng.permutation(POOL)[: 2 * SEEDS].tolist()
    second = 0 if paired else SEEDS
    return entrant("a", pool, seeds[:SEEDS], 0), entrant("b", pool, seeds[SEEDS:], second)


def is_told(pool: Pool, rng: np.random.Generator, *, paired: bool) -> bool:
    """Return whether anything is claimed of two runs of one method."""
    return any(claim.stands for claim in claims(draw(pool, rng, paired=paired)))


def power(pool: Pool, rng: np.random.Generator, comparisons: int) -> tuple[float, float]:
    """Return how often fbp and the exact paired test see a standard deviation."""
    seen = exact = 0
    for _ in range(comparisons):
        better, other = draw(pool, rng, paired=True)
        better = raised(better, float(np.std(last(better), ddof=1)))
        metric = [replace(e, target=None) for e in (better, other)]
        (claim,) = claims(metric)
        seen += claim.stands and claim.first == "a"
        test = stats.permutation_test(
            (last(better), last(other)),
            lambda x, y, axis=-1: np.mean(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            rng=0,
        )
        exact += test.pvalue <= 0.05 and test.statistic > 0
    return seen / comparisons, float(exact / comparisons)


def last(entrant: Entrant) -> np.ndarray:
    """Return the accuracies that are compared, in the order of the seeds."""
    chosen = choices(entrant)
    return np.array([chosen[seed].last("accuracy") for seed in sorted(chosen)])


def raised(entrant: Entrant, by: float) -> Entrant:
    """Return a run whose accuracies are all higher by so much."""

    def better(trial: TrialHistory) -> TrialHistory:
        rows = (dict(row, accuracy=(row["accuracy"] or 0.0) + by) for row in trial.evals)
        return replace(trial, evals=tuple(rows))

    return replace(entrant, trials=tuple(map(better, entrant.trials)))


if __name__ == "__main__":
    raise SystemExit(main())
