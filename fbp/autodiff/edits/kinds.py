"""The kinds of edits: what the equation of each does forward, and what it pulls back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

from fbp.autodiff import graph as g
from fbp.autodiff.avals import cotangent_type, differentiable, struct, varying, varying_like, zeros
from fbp.autodiff.backprop import forward, known
from fbp.autodiff.edits.changes import Change
from fbp.autodiff.edits.selectors import Selector
from fbp.autodiff.edits.site_primitive import (
    Operands,
    SiteEdit,
    body_of,
    read_operands,
    with_rules,
)
from fbp.autodiff.graph import Graph
from fbp.autodiff.rule import Applied, Call, Edit, Rules, keyword_params
from fbp.errors import InputError

Direction = Literal["outputs", "inputs"]
OUTPUTS_OR_INPUTS = ("outputs", "inputs")


@dataclass(frozen=True)
class AtSite(Edit):
    """An edit at the sites that a selector chooses."""

    site: Selector

    wraps: ClassVar[bool] = False
    """Whether the site is one unit."""
    exclusive: ClassVar[bool] = False
    """Whether a site has one such edit."""
    states_pullback: ClassVar[bool] = False
    """Whether the derivative is the edit's, not that of the site's equations."""
    needs_key: ClassVar[bool] = False

    def check(self, edited: SiteEdit) -> None:
        """Raise if the edit cannot stand at a site."""

    def in_force(self, rules: Rules) -> Rules:
        """Return the rules by which a site is differentiated."""
        return rules


@dataclass(frozen=True)
class CotangentEdit(AtSite):
    """A change of the cotangents that arrive at a site, or that leave it."""

    change: Change
    of: Direction

    def __repr__(self) -> str:
        way = "" if self.of == "outputs" else ", of='inputs'"
        return f"cotangent({self.site}, {self.change}{way})"

    @property
    def needs_key(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Test whether the change draws random numbers."""
        return self.change.arity > 2

    def apply(self, call: Call, edited: SiteEdit, args: list[Any]) -> Applied:
        """Hand the value on, and pull the changed cotangent back."""
        operands = read_operands(call.params, args)
        (x,) = operands.ins

        def pull(cts: list[Any]) -> list[Any]:
            (ct,) = cts
            changed = ct
            if ct is not None:
                changed = self.change(ct, x, site_key(operands, ct))
                check_cotangent(changed, ct, edited)
                changed = chosen(operands.mask, changed, ct)
            return by_operand(call, Operands([changed]))

        return [x], pull


@dataclass(frozen=True)
class ValueEdit(AtSite):
    """A function of the values that a site computes."""

    function: Callable[[Any], Any]

    of: ClassVar[str] = "values"

    def __repr__(self) -> str:
        return f"value({self.site}, {callable_name(self.function)})"

    def replaced(self, x: Any, mask: Any, edited: SiteEdit) -> Any:
        """Return the value in the place of another."""
        y = jnp.asarray(self.function(x))
        if (y.shape, y.dtype) != (x.shape, x.dtype):
            raise InputError(
                f"{edited} returns {y.dtype}{list(y.shape)}: the site's value is "
                f"{x.dtype}{list(x.shape)}."
            )
        return y if mask is None else jnp.where(mask, y, x)


@dataclass(frozen=True)
class RuleEdit(AtSite):
    """Other rules at a site."""

    rules: Rules

    wraps: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"rule({self.site}, {', '.join(str(primitive) for primitive in self.rules)})"

    def check(self, edited: SiteEdit) -> None:
        """Raise if the site has none of the primitives."""
        inside = {p for site in edited.group.sites for p in primitives_in(site.eqn)}
        if inside.isdisjoint(self.rules):
            raise InputError(
                f"{edited} changes nothing: the site's primitives are "
                f"{', '.join(sorted(map(str, inside)))}."
            )

    def apply(self, call: Call, _: SiteEdit, args: list[Any]) -> Applied:
        """Differentiate the site by these rules."""
        return unless_masked(call, args, self.in_force(call.rules))

    def in_force(self, rules: Rules) -> Rules:
        """Return the rules of the table, and these instead of some."""
        return with_rules(rules, self.rules)


@dataclass(frozen=True)
class RegionEdit(AtSite):
    """A pullback of a whole site."""

    function: Callable[..., Any]

    wraps: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True
    states_pullback: ClassVar[bool] = True

    def __repr__(self) -> str:
        return f"region({self.site}, {callable_name(self.function)})"

    def apply(self, call: Call, edited: SiteEdit, args: list[Any]) -> Applied:
        """Run the site, and pull back by the function."""
        operands, body = read_operands(call.params, args), required_body(call)
        num_consts = call.params["layout"].num_consts
        ins = operands.ins
        if operands.mask is None:
            outs, plain = known(call.rules, body, ins), None
        else:
            needs_ct = list(read_operands(call.params, call.needs_ct).ins)
            outs, plain = forward(call.rules, body, ins, needs_ct, call.has_out_ct)

        def pull(cts: list[Any]) -> list[Any]:
            filled = [
                zeros(cotangent_type(struct(y))) if ct is None and differentiable(struct(y)) else ct
                for ct, y in zip(cts, outs, strict=True)
            ]
            results = call_region(self.function, filled, outs, list(ins[num_consts:]), edited)
            check_region(results, list(ins[num_consts:]), edited)
            pairs = zip(results, ins[num_consts:], strict=True)
            in_cts = [None] * num_consts + [summed_like(ct, x) for ct, x in pairs]
            if plain is not None:
                pairs = zip(in_cts, plain(cts), strict=True)
                in_cts = [chosen(operands.mask, a, b) for a, b in pairs]
            return by_operand(call, Operands(in_cts))

        return outs, pull


def call_region(
    function: Callable, cts: list[Any], outs: list[Any], ins: list[Any], edited: SiteEdit
) -> Any:
    """Call a function of a site's cotangents, outputs and inputs, which names, keyword-only, the
    parameters of the equation that it reads if the site is one."""
    names = keyword_params(function)
    if not names:
        return function(cts, outs, ins)
    sites = edited.group.sites
    if len(sites) > 1 or not set(names) <= sites[0].eqn.params.keys():
        raise InputError(
            f"{edited}: the function asks for {', '.join(names)}: "
            + (
                f"the site has {len(sites)} equations, and one alone has such parameters."
                if len(sites) > 1
                else f"the equation has {', '.join(sites[0].eqn.params)}."
            )
        )
    return function(cts, outs, ins, **{name: sites[0].eqn.params[name] for name in names})


def check_region(in_cts: Any, ins: list[Any], edited: SiteEdit) -> None:
    """Raise unless a region's function returned one cotangent, or None, for each input."""
    if not isinstance(in_cts, list | tuple) or len(in_cts) != len(ins):
        got = f"{len(in_cts)}" if isinstance(in_cts, list | tuple) else f"a {type(in_cts).__name__}"
        types = ", ".join(f"{x.dtype}{list(x.shape)}" for x in ins)
        raise InputError(
            f"{edited} must return a list of {len(ins)} cotangents, one for each input ({types}), "
            f"or None for zero; it returned {got}."
        )
    for ct, x in zip(in_cts, ins, strict=True):
        if differentiable(struct(x)):
            check_cotangent(ct, cotangent_type(struct(x)), edited)
        elif ct is not None:
            raise InputError(f"{edited} returned a cotangent of an integer input: return None.")


def check_cotangent(ct: Any, like: Any, edited: SiteEdit) -> None:
    """Raise if a cotangent has not the shape and dtype of the one in whose place it goes on."""
    if ct is None:
        return
    got = (jnp.shape(ct), jax.dtypes.result_type(ct)) if not hasattr(ct, "dtype") else None
    got = got or (tuple(ct.shape), ct.dtype)
    if got != (tuple(like.shape), like.dtype):
        raise InputError(
            f"{edited} returned a cotangent {got[1]}{list(got[0])}: give "
            f"{like.dtype}{list(like.shape)}, as it arrived."
        )


def summed_like(ct: Any, x: Any) -> Any:
    """Return the cotangent of an input: the sum over those devices on which the input is the same,
    as far as types say so."""
    if ct is None:
        return None
    axes = varying(ct) - varying(cotangent_type(struct(x)))
    return varying_like(jax.lax.psum(ct, tuple(axes)) if axes else ct, struct(x))


def site_key(operands: Operands, ct: Any) -> Any:
    """Return the key of a site in one iteration, on one device if the cotangent differs there."""
    key = operands.key
    if key is None:
        return None
    for number in operands.iteration:
        key = jax.random.fold_in(key, number)
    for axis in sorted(varying(ct)):
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
    return key


def chosen(mask: Any, changed: Any, plain: Any) -> Any:
    """Return the changed cotangent in the iterations that are chosen."""
    if mask is None or (changed is None and plain is None):
        return changed
    changed = zeros(plain) if changed is None else changed
    plain = zeros(changed) if plain is None else plain
    return jnp.where(mask, changed, plain)


def by_operand(call: Call, cts: Operands) -> list[Any]:
    """Return cotangents by what the operands are for as one for each operand that needs it."""
    where, ordered = call.params["layout"].tree, [None] * len(call.needs_ct)
    for i, ct in zip(where.ins, cts.ins, strict=True):
        ordered[i] = ct
    for i, ct in zip(jax.tree.leaves(where.zeros), jax.tree.leaves(cts.zeros), strict=False):
        ordered[i] = ct
    return [ct if need else None for ct, need in zip(ordered, call.needs_ct, strict=True)]


def unless_masked(call: Call, args: list[Any], rules: Rules) -> Applied:
    """Differentiate a site by other rules, in the iterations that are chosen."""
    operands, body = read_operands(call.params, args), required_body(call)
    needs_ct = list(read_operands(call.params, call.needs_ct).ins)
    outs, pullback = forward(rules, body, operands.ins, needs_ct, call.has_out_ct)
    if operands.mask is None:
        return outs, lambda cts: by_operand(call, Operands(pullback(cts)))
    _, plain = forward(call.rules, body, operands.ins, needs_ct, call.has_out_ct)

    def pull(cts: list[Any]) -> list[Any]:
        pairs = zip(pullback(cts), plain(cts), strict=True)
        return by_operand(call, Operands([chosen(operands.mask, a, b) for a, b in pairs]))

    return outs, pull


def required_body(call: Call) -> Graph:
    """Return the program of a site that has one."""
    body = body_of(call.params)
    assert body is not None
    return body


def primitives_in(eqn: g.JaxprEqn) -> set[g.Primitive]:
    """Return the primitive of an equation, and those in the programs that it holds."""
    bodies = jaxprs_in_params(eqn.params)
    return {eqn.primitive}.union(*(primitives_in(e) for body in bodies for e in body.eqns))


def callable_name(function: Callable) -> str:
    """Return what a function is called."""
    return getattr(function, "__name__", str(function))
