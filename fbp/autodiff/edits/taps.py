"""Taps: values that come out of a backward pass, at sites that a selector of `fbp.at` chooses.

A tap hands on what it gets, and reads a further input z, of zeros, whose cotangent it states: the
statistic. So what is measured goes the way of all cotangents: out of a scan stacked, out of a
while_loop summed, out of the branch of a cond that ran; no callback, and no other channel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from fbp.autodiff import graph as g
from fbp.autodiff.avals import (
    cotangent_type,
    differentiable,
    has_tangent,
    struct,
    varying_like,
    zeros,
)
from fbp.autodiff.backprop import forward
from fbp.autodiff.edits.changes import required
from fbp.autodiff.edits.groups import SiteGroup
from fbp.autodiff.edits.kinds import (
    AtSite,
    by_operand,
    call_region,
    callable_name,
    required_body,
)
from fbp.autodiff.edits.selectors import Selector, selector
from fbp.autodiff.edits.site_primitive import Operands, SiteEdit, insert, read_operands
from fbp.autodiff.graph import Graph, JaxprEqn
from fbp.autodiff.interpret import bind
from fbp.autodiff.rule import Applied, Call
from fbp.errors import InputError

Of = Literal["outputs", "inputs", "region"]
OF = ("outputs", "inputs", "region")


@dataclass(frozen=True)
class Tap(AtSite):
    """A statistic of the cotangents at a site."""

    statistic: Callable[..., Any] | None
    of: Of
    last: int | None = None

    exclusive: ClassVar[bool] = False

    def __repr__(self) -> str:
        measured = "" if self.statistic is None else f", {callable_name(self.statistic)}"
        way = "" if self.of == "outputs" else f", of={self.of!r}"
        last = "" if self.last is None else f", last={self.last}"
        return f"tap({self.site}{measured}{way}{last})"

    @property
    def wraps(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Test whether the tap reads the site as a unit."""
        return self.of == "region"

    def region(self, cts: list[Any], outs: list[Any], ins: list[Any], edited: SiteEdit) -> Any:
        """Return the statistic of a site as a unit."""
        assert self.statistic is not None
        return call_region(self.statistic, cts, outs, ins, edited)

    def measure(self, value: Any, ct: Any) -> Any:
        """Return the statistic of one value and its cotangent."""
        if self.statistic is None:
            return ct
        both = required(self.statistic, 2) == 2
        return self.statistic(*((value, ct) if both else (ct,)))

    def types(self, edited: SiteEdit) -> list[Any]:
        """Return the types of the statistics at a site: one for each value, or for the unit."""
        group = edited.group
        if self.of != "region":
            types = [
                jax.eval_shape(
                    self.measure, shape_dtype(v.aval), shape_dtype(cotangent_type(v.aval))
                )
                for v in group.values(self.of)
            ]
        else:
            cts = [
                shape_dtype(cotangent_type(v.aval)) if differentiable(v.aval) else None
                for v in group.outputs
            ]
            outs, ins = ([shape_dtype(v.aval) for v in vs] for vs in (group.outputs, group.inputs))
            types = [
                jax.eval_shape(
                    lambda cts, outs, ins: self.region(cts, outs, ins, edited), cts, outs, ins
                )
            ]
        for leaf in jax.tree.leaves(types):
            if not has_tangent(leaf.dtype):
                raise InputError(
                    f"{edited}: the statistic is of {leaf.dtype}; it comes out as a cotangent, and "
                    "so must be of floats: convert it."
                )
        return types

    def apply(self, call: Call, edited: SiteEdit, args: list[Any]) -> Applied:
        """Hand the values on, and state the statistic as the cotangent of the zeros."""
        operands = read_operands(call.params, args)
        if self.of == "region":
            return self._apply_to_unit(call, edited, operands)
        (x,) = operands.ins

        def pull(cts: list[Any]) -> list[Any]:
            (ct,) = cts
            arrived = zeros(cotangent_type(struct(x))) if ct is None else ct
            measured = _masked(operands, self.measure(x, arrived))
            return by_operand(call, Operands([ct], zeros=measured))

        return [x], pull

    def _apply_to_unit(self, call: Call, edited: SiteEdit, operands: Operands) -> Applied:
        num_consts = call.params["layout"].num_consts
        needs_ct = list(read_operands(call.params, call.needs_ct).ins)
        outs, pullback = forward(
            call.rules, required_body(call), operands.ins, needs_ct, call.has_out_ct
        )

        def pull(cts: list[Any]) -> list[Any]:
            arrived = [
                zeros(cotangent_type(struct(y))) if ct is None and differentiable(struct(y)) else ct
                for ct, y in zip(cts, outs, strict=True)
            ]
            ins = list(operands.ins[num_consts:])
            measured = self.region(arrived, outs, ins, edited)
            return by_operand(call, Operands(pullback(cts), zeros=_masked(operands, measured)))

        return outs, pull


@dataclass(frozen=True, eq=False)
class BesideRule(AtSite):
    """Taps inside of a function with a custom rule: the gradient is that of the rule, what the taps
    read comes from the derivative of the function's body."""

    tapped: Graph

    def apply(self, call: Call, _: SiteEdit, args: list[Any]) -> Applied:
        """Pull back by the rule; for the zeros through the body."""
        operands = read_operands(call.params, args)
        needs_ct = list(read_operands(call.params, call.needs_ct).ins)
        measured = jax.tree.leaves(operands.zeros)
        outs, pullback = forward(
            call.rules, required_body(call), operands.ins, needs_ct, call.has_out_ct
        )
        pull_taps = forward(
            call.rules,
            self.tapped,
            (*operands.ins, *measured),
            [*(False for _ in needs_ct), *(True for _ in measured)],
            call.has_out_ct,
        )[1]

        def pull(cts: list[Any]) -> list[Any]:
            statistics = pull_taps(cts)[len(needs_ct) :]
            arrived = [
                jnp.zeros_like(z) if x is None else x
                for x, z in zip(statistics, measured, strict=True)
            ]
            tree = jax.tree.structure(operands.zeros)
            return by_operand(
                call, Operands(pullback(cts), zeros=jax.tree.unflatten(tree, arrived))
            )

        return outs, pull


def beside(
    eqn: JaxprEqn, ins: list[Any], measured: tuple, run: Callable[..., list[Any]]
) -> list[Any]:
    """Put the call of a function with a custom rule into the program that is being traced, with
    taps beside it: `run(ins, zeros)` runs its body with them."""
    types = list(map(struct, ins))
    tapped, _ = g.stage(run, types, jax.tree.map(struct, measured))
    consts, num_consts = list(tapped.consts), len(tapped.consts)
    body, _ = g.stage(lambda *xs: bind(eqn, xs[num_consts:]), *(struct(x) for x in (*consts, *ins)))
    return insert(
        SiteEdit(
            BesideRule(Selector(), g.hoist_consts(tapped)), -1, SiteGroup((), body, ""), 0, set()
        ),
        Operands([*consts, *ins], zeros=measured),
        body,
    )


def _masked(operands: Operands, measured: Any) -> Any:
    """Return a statistic as the cotangent of the zeros, and zero where the site is not chosen."""
    if operands.mask is not None:
        measured = jax.tree.map(lambda x: jnp.where(operands.mask, x, jnp.zeros_like(x)), measured)
    return jax.tree.map(
        lambda x, z: varying_like(jnp.asarray(x, z.dtype), struct(z)), measured, operands.zeros
    )


def shape_dtype(aval: Any) -> Any:
    """Return a type's shape and dtype."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def tap(
    site: Selector | str,
    statistic: Callable[..., Any] | None = None,
    of: Of = "outputs",
    last: int | None = None,
) -> Tap:
    """Read the cotangents at a site: `fbp.value_and_grad(f, taps={"name": tap(site, statistic)})`.

    Args:
      site: a selector of `fbp.at`, or the pattern of a scope.
      statistic: a function of (value, cotangent), or of the cotangent alone, that returns arrays of
        floats; for a region, of (cts, outs, ins), the cotangents and values of the site's outputs
        and the values that it reads. None for the cotangent itself.
      of: "outputs" for the cotangents that arrive at the site, "inputs" for those that leave it,
        "region" for the site as a unit.
      last: in a while_loop, how many iterations to keep, the last one first, with zeros where the
        loop takes fewer; None for the sum over all. The loop runs forward once more, to count.

    Returns:
      A tap. What it measures comes out by its name: the statistic if one site is chosen, with one
      value; a list if the site has several values; a dict by site if there are several sites. In a
      scan it is stacked by iteration, in a shard_map by device; in a while_loop it is summed over
      the iterations, or that of the last ones; in a branch of a cond that did not run it is zero. A
      function under `jax.vmap` has the cotangents of the batch as one array; a vmap of the
      gradient has each example's.

    Raises:
      TypeError: `statistic` cannot be called so.
      fbp.InputError: `of` is none of the three; when differentiating, no site is chosen, none is on
        the way of the gradient, or the statistic is not of floats.

    >>> import fbp, jax, jax.numpy as jnp
    >>> def f(x):
    ...     with jax.named_scope("square"):
    ...         y = x * x
    ...     return jnp.sum(3 * y)
    >>> taps = {"square": tap("square", jnp.linalg.norm)}
    >>> value, grads, tapped = fbp.value_and_grad(f, taps=taps)(jnp.array([1.0, 2.0]))
    >>> print(value, grads, tapped["square"])
    15.0 [ 6. 12.] 4.2426405
    """
    if of not in OF:
        raise InputError(f"of={of!r}: give one of {', '.join(OF)}.")
    if last is not None and (not isinstance(last, int) or last < 1):
        raise InputError(f"last={last!r}: give the number of iterations to keep, at least 1.")
    if statistic is not None or of == "region":
        required(statistic, 3 if of == "region" else 2)  # pyright: ignore[reportArgumentType]
    return Tap(selector(site), statistic, of, last)


def by_site(sites: Sequence[SiteEdit], measured: Sequence[list[Any]]) -> Any:
    """Return what a tap measured, by site if there are several, by value if a site has several."""
    values = [xs[0] if len(xs) == 1 else xs for xs in measured]
    if len(values) == 1:
        return values[0]
    return dict(zip(names([x.group for x in sites]), values, strict=True))


def names(groups: Sequence[SiteGroup]) -> list[str]:
    """Return the names of sites, numbered where several have the same."""
    seen: dict[str, int] = {}
    result = []
    for group in groups:
        seen[group.name] = number = seen.get(group.name, 0) + 1
        result.append(group.name if number == 1 else f"{group.name} ({number})")
    return result
