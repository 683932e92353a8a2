"""The derivative of a custom rule, for second derivatives, beside differences of what it states."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import get_abstract_mesh

from fbp.autodiff import RULES, avals
from fbp.autodiff import graph as g
from fbp.verify import oracle
from fbp.verify.kernels import without_kernels
from fbp.verify.observe import opaque, sites
from fbp.verify.precision import DOUBLE
from fbp.verify.rule_use import RuleUse, Staged, groups, run_rule, substituted
from fbp.verify.worst_entry import Row, wide, worst_entry

COLLECTIVES = RULES.tagged("collective")
MARGIN = 30
"""How many times the estimated error of a difference the bar is."""
LEAST = 1e-5
"""The least bar, as a share: a difference of the step eps^(1/3) has an error of eps^(2/3) times
the third derivative, which may be large; a rule without a derivative is off by all of it."""

Along = Callable[[Any], tuple[Any, Any]]
"""The weighed sum of what a rule states, at a distance along a direction, and the sum of its
terms' magnitudes."""


def second_derivative(
    use: RuleUse, rule: Staged, ins: Sequence[Any], cts: Sequence[Any], coarse: float
) -> tuple[Row | None, str]:
    """Compare the derivative of what the rule states, along one direction, with a difference of
    it; or return None, and the reason."""
    if closed := opaque(without_kernels(rule.graph)):
        return None, f"it holds {closed[0].eqn.primitive}"
    step = coarse ** (1 / 3)
    try:
        along = along_direction(use, rule, ins, cts)
        by_rule, size = _slope_and_size(along)
    except Exception as error:  # whatever a rule raises that has no derivative
        return None, str(error).strip().split("\n")[0] or type(error).__name__
    by_values = _quotient(along, step)
    total = _total(rule, by_values)
    by_rule, by_values, size = map(total, (by_rule, by_values, size))
    share = jnp.maximum(MARGIN * coarse ** (2 / 3), LEAST)
    bar = share * jnp.maximum(abs(by_rule), abs(by_values)) + MARGIN * coarse / step * size
    if get_abstract_mesh().manual_axes:  # where values are not asked afterwards
        bar += MARGIN * abs(total(_quotient(along, 4 * step)) - by_values)
    return worst_entry(by_rule, by_values, bar, 1), ""


def _quotient(along: Along, step: float) -> Any:
    (ahead, behind), _ = lax.map(along, jnp.array([step, -step], jnp.float64))
    return (ahead - behind) / (2 * step)


def _total(rule: Staged, by_values: Any) -> Callable[[Any], Any]:
    """Return what adds a number over the devices, as differentiation has done where types say over
    which of them a value varies; where they do not, only a rule that exchanges values is added."""
    varying = tuple(jax.typeof(by_values).mat.varying)
    manual = tuple(get_abstract_mesh().manual_axes)
    if varying:
        return lambda x: lax.psum(x, varying) if jax.typeof(x).mat.varying else x
    if manual and any(s.eqn.primitive in COLLECTIVES for s in sites(rule.graph)):
        return lambda x: lax.psum(x, manual)
    return lambda x: x


def _slope_and_size(along: Along) -> tuple[Any, Any]:
    """Return the derivative at 0 and the terms' magnitudes: reverse, which custom_vjp functions
    within allow; forward, which loops of unknown length do."""
    zero = jnp.float64(0)
    try:
        return oracle.grad(along, has_aux=True)(zero)
    except (ValueError, NotImplementedError, TypeError):  # a loop of unknown length
        pass

    def forward(t: Any) -> Any:
        _, slope, size = oracle.jvp(along, (t,), (jnp.ones_like(t),), has_aux=True)
        return slope, size

    program, _ = g.stage(forward, zero)
    if any(s.eqn.primitive.name == "custom_lin" for s in sites(program)):
        raise NotImplementedError("neither forward nor reverse differentiation goes through it")
    return forward(zero)


def along_direction(use: RuleUse, rule: Staged, ins: Sequence[Any], cts: Sequence[Any]) -> Along:
    """Return what the rule states as a function of the distance along a random direction."""
    numbers = [group[0] for group in groups(use)]
    directions, weights = (
        [
            np.random.default_rng([k, i]).uniform(0.25, 1, avals.struct(use.eqn.invars[i]).shape)
            for i in numbers
        ]
        for k in (3, 4)
    )
    ins = [DOUBLE.cast(x) if avals.differentiable(jax.typeof(x)) else x for x in ins]

    def moved(x: Any, t: Any, direction: Any) -> Any:
        scale = jnp.sqrt(jnp.mean(jnp.square(abs(x))))
        return x + t * jnp.where(scale > 0, scale, 1.0) * direction

    def along(t: Any) -> tuple[Any, Any]:
        values = [moved(ins[i], t, d) for i, d in zip(numbers, directions, strict=True)]
        _, stated = run_rule(use, rule, substituted(use, ins, values), cts, DOUBLE)
        terms = [jnp.real(wide(x)) * w for x, w in zip(stated, weights, strict=True)]
        sizes = [jnp.sum(abs(lax.stop_gradient(x))) for x in terms]
        return sum(jnp.sum(x) for x in terms), sum(sizes)

    return along
