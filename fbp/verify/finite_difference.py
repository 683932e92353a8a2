"""The derivative of a function of one number, from its values alone, with an error bar.

Difference quotients over a ladder of steps, each half of the one before, are extrapolated to the
step 0. Three things limit what they can tell, and all three are measured: how the quotients
converge (truncation), how rough the values are (round-off, a solver's or a sum's noise), and
whether the same point gives the same value twice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from fbp.errors import require
from fbp.verify.extrapolation import Estimate, extrapolate

Kind = Literal["smooth", "kink", "jump", "edge", "unresolved"]

LARGEST = (math.sqrt(5) - 1) / 2  # the first step, in scales: no period divides all the ladder
REPEATS = 4  # how often phi(0) is evaluated in each of two calls
WINDOW = 32  # points of one measurement of the noise
ORDERS = (4, 5, 6)  # of the differences that tell the noise
DEVIATIONS = 5  # the standard deviations of the noise that the bar covers
DISTINCT = 6  # different values that make a lattice; fewer are the levels of a step
SETTLED = 8  # smallest steps over which values that do not approach phi(0) jump
STEADY = 12  # smallest steps over which quotients that grow with each are infinite
SIGNS = np.array([[-1.0], [1.0]])


class Rung(NamedTuple):
    """The difference quotients of one step h: (phi(h) - phi(-h)) / 2h and its two halves."""

    step: float
    central: float
    left: float
    right: float


@dataclass(frozen=True)
class Slope:
    """What the values of phi near 0 say of its derivative at 0.

    Attributes:
      value: the derivative; at a kink or a jump, the middle of the one-sided ones.
      error: the derivative, or any number between the one-sided ones, is value +- error.
      left: the derivative of phi on t < 0, as t -> 0.
      right: the same on t > 0.
      kind: 'smooth', or what is the matter at 0, as closely as the noise lets one look.
        'kink': the one-sided derivatives differ. 'jump': the values themselves do not approach
        phi(0). 'edge': phi has values on one side only. 'unresolved': the bar is too big to tell.
      rungs: the difference quotients by step, largest first.
    """

    value: float
    error: float
    left: Estimate
    right: Estimate
    kind: Kind
    rungs: tuple[Rung, ...]

    def contains(self, x: float) -> bool:
        """Return whether x is a derivative that the values of phi admit.

        Where phi is smooth, or has an edge, value +- error. At a kink, all from the one one-sided
        derivative to the other: the subgradients, if phi is convex. At a jump, a one-sided
        derivative. What is unresolved refutes nothing outside of its bar; NaN is never a
        derivative.
        """
        if math.isnan(x):
            return False
        if self.kind == "jump":
            sides = (self.left, self.right)
            return any(abs(x - side.value) <= side.error for side in sides)
        if self.kind == "kink":
            low, high = sorted((self.left, self.right), key=lambda side: side.value)
            return low.value - low.error <= x <= high.value + high.error
        return self.error == math.inf or abs(x - self.value) <= self.error


def slope(phi: Callable[[np.ndarray], np.ndarray], scale: float, eps: float = 2.2e-16) -> Slope:
    """Return the derivative of phi at 0, from values of phi alone, and how far it may be off.

    With phi smooth, (phi(h) - phi(-h)) / 2h = phi'(0) + a h^2 + b h^4 + ... is extrapolated to
    h = 0 (Ridders 1982). So is (phi(h) + phi(-h) - 2 phi(0)) / 2h, which is half of the difference
    of the one-sided derivatives: 0, or there is a kink. An extrapolated value from larger steps
    must agree with the quotients of all smaller ones, as far as the noise lets these tell. The
    noise is measured from high differences of phi on equidistant points (Moré & Wild 2011).

    Args:
      phi: values at offsets from the point, both float64, 1-D; called twice. NaN and infinity
        say that there is no value.
      scale: the size of the offsets that matter, such as the size of the point itself: steps go
        from about 0.6 scale down to about eps^0.75 scale.
      eps: relative precision in which phi is computed.

    Structure finer than the smallest step, or smaller than the noise, is not seen.

    Sources: C. J. F. Ridders, Accurate computation of F'(x) and F'(x)F''(x), Advances in
    Engineering Software 4 (1982), and Numerical Recipes, section 5.7; J. J. Moré and S. M. Wild,
    Estimating computational noise, SIAM J. Sci. Comput. 33 (2011).

    Raises InputError where scale or eps is not positive and finite.

    >>> found = slope(lambda t: np.sin(1.0 + t), scale=1.0)
    >>> found.kind, found.contains(math.cos(1.0)), found.error < 1e-9
    ('smooth', True, True)
    >>> slope(np.abs, scale=1.0).kind
    'kink'
    """
    require(0 < scale < math.inf, "scale", scale, "positive and finite")
    require(0 < eps < 1, "eps", eps, "between 0 and 1")
    samples, farther = _sample(phi, scale, eps)
    sampled = _judge(samples)
    if not samples.flat():
        return sampled
    return _hull(sampled, _judge(replace(samples, noise=samples.noise + farther)))


def few_values(
    phi: Callable[[np.ndarray], np.ndarray], scale: float, eps: float = 2.2e-16
) -> Slope:
    """Return the same of six values of phi alone, for a function that is dear, as one of the host.

    Central differences of three steps are extrapolated to 0. A kink or a jump is not told from a
    smooth function; the bar is that of the extrapolation and of rounding.

    >>> estimate = few_values(lambda t: np.sin(1.0 + t), scale=1.0)
    >>> estimate.contains(math.cos(1.0)), estimate.error < 1e-5
    (True, True)
    """
    require(0 < scale < math.inf, "scale", scale, "positive and finite")
    steps = 2 * scale * eps ** (1 / 5) * 0.5 ** np.arange(3)
    values = np.asarray(phi(np.concatenate([-steps, steps])), np.float64).reshape(2, -1)
    noise = DEVIATIONS * eps * np.max(abs(values)) / steps
    central = (values[1] - values[0]) / (2 * steps)
    limit = extrapolate(central, noise, orders=(2, 4, 6))
    rungs = tuple(
        Rung(float(h), float(c), math.nan, math.nan) for h, c in zip(steps, central, strict=True)
    )
    return Slope(limit.value, limit.error, limit, limit, "smooth", rungs)


@dataclass(frozen=True)
class _Samples:
    """The values of phi and the bounds of their errors, at 0 and, on both sides, left first, on
    the ladder of steps."""

    scale: float
    eps: float
    steps: np.ndarray
    origin: float
    values: np.ndarray
    noise: np.ndarray

    def origin_noise(self) -> float:
        return float(np.max(self.noise[:, -1]))

    def quotients(self) -> np.ndarray:
        """Return the one-sided difference quotients."""
        return SIGNS * (self.values - self.origin) / self.steps

    def side_limits(self) -> tuple[Estimate, Estimate]:
        """Return the one-sided derivatives, from increments between rungs: phi(0) takes no part."""
        quotients = SIGNS * (self.values[:, :-1] - self.values[:, 1:]) / self.steps[1:]
        noise = (self.noise[:, :-1] + self.noise[:, 1:]) / self.steps[1:]
        left, right = map(partial(extrapolate, orders=(1, 2, 3, 4)), quotients, noise)
        return left, right

    def central_limit(self) -> Estimate:
        noise = np.sum(self.noise, axis=0) / (2 * self.steps)
        return extrapolate(np.mean(self.quotients(), axis=0), noise, orders=(2, 4, 6, 8))

    def gap_limit(self) -> Estimate:
        """Half of the right derivative less the left one."""
        left, right = self.quotients()
        noise = (np.sum(self.noise, axis=0) + 2 * self.origin_noise()) / (2 * self.steps)
        return extrapolate((right - left) / 2, noise, orders=(1, 3, 5, 7))

    def jump(self) -> bool:
        """Return whether on a side the values stay away from phi(0), however small the step."""
        distance = abs(self.values - self.origin)[:, -SETTLED:]
        noise = self.noise[:, -1] + self.origin_noise()
        return bool(np.any(distance[:, -1] > np.maximum(noise, 0.75 * np.max(distance, axis=1))))

    def flat(self) -> bool:
        """Return whether phi is constant close to 0: there it may be rounded to steps too wide to
        see."""
        return bool(np.all(self.values[:, -SETTLED:] == self.origin))

    def infinite(self) -> bool:
        """Return whether on a side the difference quotients grow, with every smaller step."""
        size = abs(self.quotients()[:, -STEADY:])
        grows = np.all(size[:, 1:] > 1.01 * size[:, :-1], axis=1)
        noise = (self.noise[:, -1] + self.origin_noise()) / self.steps[-1]
        return bool(np.any(grows & (size[:, -1] > noise)))

    def steepness(self) -> float:
        """Return what would be a large derivative: that of a line through the range of the
        values."""
        finite = self.values[np.isfinite(self.values)]
        spread = np.ptp(finite) if finite.size else 0.0
        least = math.sqrt(self.eps) * abs(self.origin) + _tiny(self.eps) / self.eps
        return float(max(spread, least) / self.scale)


def _sample(
    phi: Callable[[np.ndarray], np.ndarray], scale: float, eps: float
) -> tuple[_Samples, float]:
    """Return the samples; also, if they are flat close to 0, what may be noise farther out."""
    count = math.ceil(0.75 * math.log2(1 / eps))
    steps = LARGEST * scale * 0.5 ** np.arange(count)
    window = LARGEST * scale * np.arange(1, WINDOW + 1)
    near, far = math.sqrt(eps) * window, 2.0**-8 * window
    zeros = np.zeros(REPEATS)
    sides = np.concatenate([steps, near, far])
    with np.errstate(all="ignore"):
        sampled = np.asarray(phi(np.concatenate([zeros, -sides, sides])), np.float64)
        again = np.asarray(phi(zeros), np.float64)
    sampled = np.where(np.isfinite(sampled), sampled, np.nan)
    at_zero = np.concatenate([sampled[:REPEATS], again])
    values, near, far = np.split(sampled[REPEATS:].reshape(2, -1), [count, count + WINDOW], axis=1)
    rounded = eps * (abs(values) + scale * abs(np.diff(values, prepend=np.nan)) / steps)
    farther = [max(DEVIATIONS * deviation(side), quantum(side)) for side in near]
    least = max(np.ptp(at_zero), _tiny(eps))
    samples = _Samples(
        scale=scale,
        eps=eps,
        steps=steps,
        origin=float(np.mean(at_zero)),
        values=values,
        noise=np.maximum(farther, least)[:, None] + np.nan_to_num(rounded),
    )
    step = grain(sampled - samples.origin)
    if samples.flat():
        return samples, max(step, *(DEVIATIONS * deviation(side) for side in far))
    return replace(samples, noise=np.maximum(samples.noise, step)), 0.0


def _tiny(eps: float) -> float:
    """Return what may underflow to 0 in this precision."""
    return float(np.finfo(np.float32 if eps > 1e-10 else np.float64).tiny)


def _judge(samples: _Samples) -> Slope:
    left_quotients, right_quotients = samples.quotients()
    central = (left_quotients + right_quotients) / 2
    table = np.stack([samples.steps, central, left_quotients, right_quotients], axis=1)
    rungs = tuple(Rung(*map(float, row)) for row in table)
    left, right = samples.side_limits()
    value, error, kind = _verdict(samples, left, right)
    if not error <= max(abs(value), samples.steepness()) / 2 and kind in ("smooth", "edge"):
        kind = "unresolved"
    return Slope(value, error, left, right, kind, rungs)


def _verdict(samples: _Samples, left: Estimate, right: Estimate) -> tuple[float, float, Kind]:
    """Return the value, the error and the kind."""
    present = np.isfinite(samples.values[:, -1])
    if not math.isfinite(samples.origin) or not np.any(present):
        return math.nan, math.inf, "unresolved"
    if samples.jump():
        return *_between(left, right), "jump"
    if samples.infinite():
        return math.nan, math.inf, "unresolved"
    if not np.all(present):
        only = right if present[1] else left
        return only.value, only.error, "edge"
    central, gap = samples.central_limit(), samples.gap_limit()
    if abs(right.value - left.value) > right.error + left.error or abs(gap.value) > gap.error:
        return *_between(left, right), "kink"
    if not math.isfinite(central.error + gap.error):
        return math.nan, math.inf, "unresolved"
    return central.value, central.error + abs(gap.value) + gap.error, "smooth"


def deviation(values: np.ndarray) -> float:
    """Return the standard deviation of the noise in a function's values at equidistant points.

    The k-th differences of independent noise have the variance binom(2k, k) sigma^2; those of a
    smooth function vanish as k grows. Of each of several k the median is taken, which one kink or
    jump among the points does not move (Moré & Wild 2011, with medians). NaN is no value.

    >>> t = np.linspace(0, 1, 32)
    >>> noise = np.random.default_rng(0).normal(size=32)
    >>> 0.5e-6 < deviation(np.exp(t) + 1e-6 * noise) < 2e-6
    True
    """
    sampled = [0.0]
    for k in ORDERS:
        size = abs(np.diff(values, k)) / math.sqrt(math.comb(2 * k, k))
        if np.any(np.isfinite(size)):
            sampled.append(float(np.nanmedian(size)) / 0.6745)
    return max(sampled)


def quantum(values: np.ndarray) -> float:
    """Return the spacing of the lattice on which the values lie, 0 if they do not seem to.

    Rounded values of a line at equidistant points repeat a pattern, of which high differences see
    little.

    >>> t = np.arange(32)
    >>> quantum(np.round(1.9 * t)), quantum(1.9 * t)
    (1.0, 0.0)
    """
    rises = abs(np.diff(values))
    rises = rises[rises > 0]
    least = np.min(rises, initial=np.inf)
    multiples = rises / least
    on_lattice = np.all(abs(multiples - np.round(multiples)) < 0.01)
    return float(least) if on_lattice and np.max(multiples, initial=1) > 1.5 else 0.0


def grain(values: np.ndarray) -> float:
    """Return the largest power of two of which all values are multiples; 0 if they are few values.

    What is left of a difference of large numbers are multiples of their spacing.

    >>> t = np.linspace(0, 1, 32)
    >>> print(grain((1e6 + np.sin(t)) - 1e6), np.spacing(1e6))
    1.1641532182693481e-10 1.1641532182693481e-10
    """
    distinct = np.unique(values[np.isfinite(values) & (values != 0)])
    if len(distinct) < DISTINCT:
        return 0.0
    mantissas, exponents = np.frexp(distinct)
    integers = np.ldexp(mantissas, 53).astype(np.int64)
    return float(np.min(np.ldexp((integers & -integers).astype(np.float64), exponents - 53)))


def _between(left: Estimate, right: Estimate) -> tuple[float, float]:
    """Return the middle of the two, and how far from it their bars reach."""
    middle = (left.value + right.value) / 2
    return middle, abs(left.value - right.value) / 2 + max(left.error, right.error)


def _hull(nearer: Slope, farther: Slope) -> Slope:
    """Return where the roughness farther out may be noise or may be structure: what either
    admits."""
    reach = [(s.value - s.error, s.value + s.error) for s in (nearer, farther)]
    low, high = min(low for low, _ in reach), max(high for _, high in reach)
    if not math.isfinite(high - low):
        return nearer
    apart = abs(nearer.value - farther.value) > nearer.error + farther.error
    kind = "unresolved" if apart or nearer.kind != farther.kind else farther.kind
    return replace(farther, value=(low + high) / 2, error=(high - low) / 2, kind=kind)
