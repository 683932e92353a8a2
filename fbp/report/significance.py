"""Tell two samples of seeds apart, by their means and by their ranks.

A sample is one score for each seed, more is better; a failed run takes part as `-inf`. Ranks
are of both samples together, so that a failure is the lowest rank. Where both samples are of the
same seeds, scores are compared within each seed.

Two samples differ where means and ranks say so, both: a setting is chosen by its mean, and a rate
at which one seed in ten fails may have the higher median and the same mean, so that ranks alone
would call two runs of one method different (`python -m benchmarks.claims`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy import stats

LEVEL = 0.05  # of all claims together
POWER = 0.8  # the usual one, with which `seeds_to_tell` plans; Cohen (1988), 2.4
ROUNDING = 1e-12  # of the scores: what differs by less is equal, in double precision
FEW = 8  # up to so many seeds of each, ties make the normal approximation of U too sure
RESAMPLES = 9_999  # where there are more permutations, so many are drawn: p is within 0.005 at 0.05
MOST_SEEDS = 1_000  # more than these is "too many" rather than a plan

Scores = Mapping[int, float]
Sample = Float64[np.ndarray, " seeds"]


@dataclass(frozen=True)
class Difference:
    """A difference between two samples, and how likely one as large is by chance.

    Attributes:
      p_value: two-sided, the larger one of means and ranks.
      mean_rank: the mean rank of the first sample less that of the second; 0 where equal.
      effect: `mean_rank` in standard deviations of a seed's (of a pair's where `paired`).
      paired: whether scores were compared within each seed.
      sizes: the seeds of each sample.
    """

    p_value: float
    mean_rank: float
    effect: float
    paired: bool
    sizes: tuple[int, int]

    @property
    def least_p_value(self) -> float:
        """The smallest p-value that samples of these sizes can have."""
        n, m = self.sizes
        return 2 / 2**n if self.paired else 2 / math.comb(n + m, n)

    def __neg__(self) -> "Difference":
        """Return the same difference, seen from the second sample."""
        sizes = self.sizes[::-1]
        return replace(self, mean_rank=-self.mean_rank, effect=-self.effect, sizes=sizes)


def rank_difference(x: Scores, y: Scores, *, seed: int = 0) -> Difference:
    """Test whether one sample lies above the other, by means and by ranks: the larger p-value.

    Means: the t test, within each seed where both samples have the same ones, else Welch's; left
    out where a score is infinite. Ranks, of the same seeds: the sign of each seed's difference of
    ranks is flipped, which is exact under the hypothesis that the two values of a seed may be
    exchanged; of other seeds: the ranks are divided anew (the Mann-Whitney test), from 9 seeds on
    by its normal approximation. All permutations count up to 9,999; of more, 9,999 are drawn.
    Sources: Fisher, The Design of Experiments (1935), 21; Welch (1947); Phipson and Smyth,
    Permutation P-values Should Never Be Zero (2010).

    Args:
      x: a score for each seed, more is better.
      y: the other sample; of the same seeds for a paired test.
      seed: the permutations are drawn from it.

    Returns:
      The p-value and the size of the difference. Samples of fewer than two seeds have p = 1.

    Raises:
      ValueError: a score is NaN, or a sample is empty.

    >>> better = {seed: 0.9 + 0.01 * seed for seed in range(8)}
    >>> worse = {seed: 0.8 + 0.01 * seed for seed in range(8)}
    >>> rank_difference(better, worse).p_value == 2 / 2**8
    True
    """
    paired = set(x) == set(y)
    seeds = sorted(x), sorted(y)
    scores = [np.array([s[k] for k in keys], float) for s, keys in zip((x, y), seeds, strict=True)]
    if any(not s.size or np.isnan(s).any() for s in scores):
        raise ValueError("give at least one score for each sample, and no NaN")
    ranks = stats.rankdata(np.concatenate(scores))
    of_x, of_y = ranks[: len(x)], ranks[len(x) :]
    p_value = 1.0
    if min(len(x), len(y)) > 1:
        p_value = max(
            _p_of_means(scores[0], scores[1], paired), _p_of_ranks(of_x, of_y, paired, seed)
        )
    mean = float(of_x.mean() - of_y.mean())
    return Difference(p_value, mean, _effect(of_x, of_y, paired), paired, (len(x), len(y)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number: together they err no more often than one alone.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    return [float(min(1.0, p)) for p in corrected[np.argsort(order)]]


def seeds_to_tell(difference: Difference, *, level: float = LEVEL) -> int | None:
    """Return how many seeds would tell a difference of this size, with probability 0.8.

    n = ((z_{1 - level/2} + z_{0.8}) / effect)^2 pairs, twice that for samples of other seeds,
    and never fewer than those with which the exact test can reach the level at all. Sources:
    Noether, Sample Size Determination for Some Common Nonparametric Tests (1987).

    Args:
      difference: what was measured; its effect is taken for the true one, so that the answer is
        as uncertain as that.
      level: that of one comparison.

    Returns:
      The seeds of each sample; None where no difference was seen, or above 1,000.

    >>> seeds_to_tell(Difference(0.2, 1.0, 1.0, paired=True, sizes=(4, 4)))
    8
    """
    if difference.effect == 0:
        return None
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(POWER)
    samples = 1 if difference.paired else 2
    planned = samples * (z / difference.effect) ** 2
    seeds = max(math.ceil(planned), fewest_seeds(difference.paired, level))
    return seeds if seeds <= MOST_SEEDS else None


def fewest_seeds(paired: bool, level: float = LEVEL) -> int:
    """Return with how many seeds the exact test can reach the level at all.

    >>> fewest_seeds(paired=True), fewest_seeds(paired=False)
    (6, 4)
    """
    sizes = ((n, n) for n in range(2, MOST_SEEDS))
    return next(s[0] for s in sizes if Difference(1, 0, 0, paired, s).least_p_value <= level)


def _p_of_means(x: Sample, y: Sample, paired: bool) -> float:
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 0.0  # the ranks decide
    spread = np.ptp(x - y) if paired else np.ptp(x) + np.ptp(y)
    rounding = ROUNDING * max(np.abs(x).max(), np.abs(y).max())
    if spread <= rounding:
        return float(abs(x.mean() - y.mean()) <= rounding)
    test: Any = stats.ttest_rel(x, y) if paired else stats.ttest_ind(x, y, equal_var=False)
    return float(test.pvalue)


def _p_of_ranks(x: Sample, y: Sample, paired: bool, seed: int) -> float:
    if not paired and min(len(x), len(y)) > FEW:
        return float(stats.mannwhitneyu(x, y, method="asymptotic").pvalue)
    result = stats.permutation_test(
        (x, y),
        lambda a, b, axis=-1: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=seed,
    )
    return float(result.pvalue)


def _effect(x: Sample, y: Sample, paired: bool) -> float:
    mean = float(x.mean() - y.mean())
    if mean == 0:
        return 0.0
    if min(len(x), len(y)) < 2:
        return 0.0  # one seed says nothing of how seeds differ
    spread = np.std(x - y, ddof=1) if paired else math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
    return mean / float(spread) if spread > 0 else math.copysign(math.inf, mean)
