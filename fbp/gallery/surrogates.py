"""Gradients of what has none: rounding straight through, and spikes with a surrogate derivative.

A spike is a comparison that is cast to a float, `(v > threshold).astype(v.dtype)`, or by which two
constants are chosen, `jnp.where(v > threshold, 1.0, 0.0)`. What a comparison returns has no
cotangent; so both equations are one site.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Literal, Var
from jax.extend.core import primitives as p
from jaxtyping import Array

import fbp
from fbp.autodiff.edits.groups import SiteGroup
from fbp.autodiff.edits.kinds import RegionEdit
from fbp.autodiff.edits.program import NamedProgram, function_name
from fbp.autodiff.edits.selectors import Selector, selector
from fbp.autodiff.edits.site_primitive import SiteEdit
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import bind
from fbp.autodiff.restage import Key, Site, bodies, site_of
from fbp.autodiff.rule import Applied, Call, Edit, unbroadcast

Surrogate = Callable[[Array], Array]

GREATER = frozenset({p.gt_p, p.ge_p})
COMPARISONS = fbp.RULES.tagged("compares")
ROUNDING = fbp.RULES.tagged("rounds")


def straight_through(site: Any = None, limit: float | None = None) -> fbp.Rules | Edit:
    """Return the rules by which round, floor, ceil and sign have the derivative 1.

    Args:
      site: a selector, or the pattern of a scope, where they are in force; None for everywhere.
      limit: beyond which |x| the derivative is 0, as of a hard tanh; None for nowhere.

    Returns:
      Rules, or an edit, for `fbp.RULES | straight_through()`.

    Source: Bengio, Léonard and Courville, arXiv 1308.3432; with the limit 1 Hubara et al., arXiv
    1602.02830.

    >>> import fbp, jax.numpy as jnp
    >>> print(fbp.grad(jnp.round, rules=fbp.RULES | straight_through())(0.3))
    1.0
    """
    largest = float("inf") if limit is None else limit
    slope = lambda x, _: (jnp.abs(x) <= largest).astype(x.dtype)
    rules = fbp.Rules(*(fbp.rule.derivative(primitive, slope) for primitive in ROUNDING))
    return rules if site is None else fbp.edit.rule(site, rules)


def fast_sigmoid(slope: float = 25.0) -> Surrogate:
    """Return the derivative 1 / (1 + slope |u|)^2 of u = v - threshold.

    Args:
      slope: how fast it falls.

    Returns:
      A function of u, for `spikes`.

    Source: Zenke and Ganguli, SuperSpike, Neural Computation 30 (2018), arXiv 1705.11146.

    >>> import jax.numpy as jnp
    >>> print(fast_sigmoid(1.0)(jnp.array([0.0, 1.0])))
    [1.   0.25]
    """
    return lambda u: 1 / (1 + slope * jnp.abs(u)) ** 2


def arctan(alpha: float = 2.0) -> Surrogate:
    """Return the derivative (alpha / 2) / (1 + (pi alpha u / 2)^2), of arctan(pi alpha u / 2) / pi.

    Args:
      alpha: how fast it falls.

    Returns:
      A function of u, for `spikes`.

    Source: Fang et al., arXiv 2007.05785.

    >>> import jax.numpy as jnp
    >>> print(arctan(2.0)(jnp.array([0.0])))
    [1.]
    """
    return lambda u: alpha / 2 / (1 + (jnp.pi / 2 * alpha * u) ** 2)


def boxcar(width: float = 1.0) -> Surrogate:
    """Return the derivative 1 / width where |u| < width / 2, else 0.

    Args:
      width: of the box, whose area is 1.

    Returns:
      A function of u, for `spikes`.

    Source: the rectangular window of Wu et al., arXiv 1706.02609.

    >>> import jax.numpy as jnp
    >>> print(boxcar(2.0)(jnp.array([0.0, 1.5])))
    [0.5 0. ]
    """
    return lambda u: jnp.where(jnp.abs(u) < width / 2, jnp.ones_like(u) / width, jnp.zeros_like(u))


def spikes(surrogate: Surrogate, among: Any = None) -> Edit:
    """Return the edit by which spikes have a derivative: a surrogate, of v - threshold.

    Args:
      surrogate: `fast_sigmoid()`, `arctan()`, `boxcar()` or any function of u = v - threshold.
      among: a selector, or the pattern of a scope, of the comparisons; None for all.

    Returns:
      An edit, for `fbp.RULES | edit`. The threshold has its derivative too.

    Raises:
      fbp.InputError: when differentiating, there is no spike.

    Source: Neftci, Mostafa and Zenke, Surrogate gradient learning in spiking neural networks, IEEE
    Signal Processing Magazine 36 (2019), arXiv 1901.09948.

    >>> import fbp, jax.numpy as jnp
    >>> spike = lambda v: (v > 1.0).astype(v.dtype)
    >>> print(fbp.grad(spike, rules=fbp.RULES | spikes(boxcar(4.0)))(jnp.array(0.5)))
    0.25
    """
    return SpikeEdit(Spikes(None if among is None else selector(among)), surrogate)


@dataclass(frozen=True)
class Spikes(Selector):
    """Chooses comparisons of floats together with what makes floats of them."""

    among: Selector | None = None
    comparisons: Mapping[Key, Key] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        return "spikes()" if self.among is None else f"spikes({self.among})"

    def resolve(self, program: NamedProgram) -> Selector:
        """Find the spikes of a program: by equation the comparison."""
        comparisons: dict[Key, Key] = {}
        find_spikes(program.graph, None, comparisons)
        among = None if self.among is None else self.among.resolve(program)
        sites = {site.key: site for site in program.sites}
        if among is not None:
            comparisons = {k: x for k, x in comparisons.items() if among.match(sites[x])[0]}
        return replace(self, among=among, comparisons=comparisons)

    def match(self, site: Site) -> tuple[bool, bool]:
        """Say whether an equation is part of a spike."""
        return site.key in self.comparisons, site.key in self.comparisons

    def group(self, site: Site) -> Any:
        """Return the comparison."""
        return self.comparisons[site.key]


def find_spikes(graph: Graph, around: Site | None, comparison_of: dict[Key, Key]) -> None:
    """Note the spikes of a program and of its bodies."""
    comparisons: dict[Var, Key] = {}
    for i, eqn in enumerate(graph.eqns):
        site = site_of(eqn, i, around)
        if eqn.primitive in COMPARISONS and all(is_float(v) for v in eqn.invars):
            comparisons[eqn.outvars[0]] = site.key
        chosen = [v for v in eqn.invars if isinstance(v, Var) and v in comparisons]
        if chosen and makes_floats(eqn):
            comparison = comparisons[chosen[0]]
            comparison_of[site.key] = comparison_of[comparison] = comparison
            continue
        for body in bodies(site):
            find_spikes(body.graph, body.around, comparison_of)


def makes_floats(eqn: JaxprEqn) -> bool:
    """Test whether an equation makes floats of a boolean and constants alone."""
    others = [v for v in eqn.invars if not isinstance(v, Literal)]
    named = eqn.primitive in (p.convert_element_type_p, p.select_n_p)
    return (
        (named or function_name(eqn) == "_where")
        and len(others) == 1
        and all(is_float(v) for v in eqn.outvars)
    )


def is_float(v: Any) -> bool:
    """Test whether a variable is of floats."""
    return jnp.issubdtype(v.aval.dtype, jnp.floating)


@dataclass(frozen=True)
class SpikeEdit(RegionEdit):
    """A surrogate derivative of spikes."""

    def __repr__(self) -> str:
        return f"spikes({self.site}, {getattr(self.function, '__qualname__', self.function)})"

    def apply(self, call: Call, edited: SiteEdit, args: list[Any]) -> Applied:
        """Pull back through the surrogate."""
        pullback = partial(pull_spikes, self.function, edited.group)
        return RegionEdit(self.site, pullback).apply(call, edited, args)


def pull_spikes(
    surrogate: Surrogate, group: SiteGroup, cts: list[Any], _: list[Any], ins: list[Any]
) -> list[Any]:
    """Return the cotangents of what a comparison compares: ct (y(true) - y(false)) surrogate(u)."""
    comparison, *readers = (site.eqn for site in group.sites)
    read = lambda v: v.val if isinstance(v, Literal) else ins[group.inputs.index(v)]
    a, b = map(read, comparison.invars)
    ct = 0
    arrived = dict(zip(group.outputs, cts, strict=True))
    for eqn in readers:
        if (y_ct := arrived.get(eqn.outvars[0])) is not None:
            on, off = (
                bind(eqn, [as_bool(v, comparison, value) for v in eqn.invars])[0]
                for value in (True, False)
            )
            ct = ct + y_ct * (on - off)
    u = (a - b) if comparison.primitive in GREATER else (b - a)
    slope = (ct * surrogate(u)).astype(u.dtype)
    signs = (1, -1) if comparison.primitive in GREATER else (-1, 1)
    pairs = list(zip(comparison.invars, signs, strict=True))
    total = lambda v: sum(sign for w, sign in pairs if w is v)
    return [unbroadcast(slope * total(v), x) for v, x in zip(group.inputs, ins, strict=True)]


def as_bool(v: Any, comparison: JaxprEqn, value: bool) -> Any:
    """Return a constant, or, for what a comparison returns, true or false everywhere."""
    aval: Any = comparison.outvars[0].aval
    return v.val if isinstance(v, Literal) else jnp.full(aval.shape, value)
