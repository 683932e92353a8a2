"""Change a backward pass, or a value, at the sites that a selector of `fbp.at` chooses.

    cotangent(site, change)     the cotangents that arrive at a site, or that leave it
    rule(site, rules)           the rules of primitives, at a site alone
    region(site, f)             the whole site as one unit: f(cts, outs, ins) is its pullback
    value(site, f)              the values that a site computes, forward
    residuals(site, storage)    how what the backward pass reads of a site is stored

Edits are parts of a table of rules: `fbp.grad(f, rules=fbp.RULES | edit)`. They choose sites of the
function as it was written. Where several change a cotangent at one site, it meets them in the order
in which they were added; `print(rules)` lists them, and `rules.without(edit)` takes one back.

A function with a custom rule is differentiated by its body if a site is chosen inside it, since its
rule knows nothing of that site; to leave the rule, choose the function itself, or a scope around
it. Functions under `jax.vmap` have the whole batch's cotangents at their sites, zeros for examples
whose while_loop has ended; under a vmap of the gradient, an edit sees one example's.
"""

from collections.abc import Callable
from typing import Any

from fbp.autodiff.edits.changes import Change, change, required
from fbp.autodiff.edits.changes import cast as cast
from fbp.autodiff.edits.changes import clip as clip
from fbp.autodiff.edits.changes import clip_norm as clip_norm
from fbp.autodiff.edits.changes import noise as noise
from fbp.autodiff.edits.changes import scale as scale
from fbp.autodiff.edits.changes import stop as stop
from fbp.autodiff.edits.changes import top_k as top_k
from fbp.autodiff.edits.kinds import (
    OUTPUTS_OR_INPUTS,
    CotangentEdit,
    Direction,
    RegionEdit,
    RuleEdit,
    ValueEdit,
)
from fbp.autodiff.edits.residuals import ResidualEdit, storage_name
from fbp.autodiff.edits.selectors import Selector, selector
from fbp.autodiff.rule import Edit, Rule, Rules
from fbp.errors import InputError

__all__ = [
    "cast",
    "clip",
    "clip_norm",
    "cotangent",
    "noise",
    "region",
    "residuals",
    "rule",
    "scale",
    "stop",
    "top_k",
    "value",
]


def cotangent(
    site: Selector | str, change_: Change | Callable[..., Any], of: Direction = "outputs"
) -> Edit:
    """Change the cotangents at a site.

    Args:
      site: a selector, or the pattern of a scope.
      change_: `scale`, `stop`, `clip`, `clip_norm`, `top_k`, `cast` or `noise`, or a function of
        (cotangent, value, key), or of the first one or two of these, which returns a cotangent of
        the same shape and dtype. Each value of the site has its own.
      of: "outputs" for the cotangents that arrive at the site, summed over all that reads its
        values; "inputs" for those that leave it, the site's part alone.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Raises:
      TypeError: `change_` is no function of one to three arguments.
      fbp.InputError: `of` is none of the two; when differentiating, no site is chosen, or none is
        on the way of the gradient, or a cotangent has another shape or dtype.

    >>> import fbp, jax, jax.numpy as jnp
    >>> def f(x):
    ...     with jax.named_scope("square"):
    ...         y = x * x
    ...     return jnp.sin(y)
    >>> turned = fbp.RULES | cotangent("square", scale(-1.0))
    >>> print(fbp.grad(f)(2.0) + fbp.grad(f, rules=turned)(2.0))
    0.0
    """
    if of not in OUTPUTS_OR_INPUTS:
        raise InputError(f"of={of!r}: give one of {', '.join(OUTPUTS_OR_INPUTS)}.")
    return CotangentEdit(selector(site), change(change_), of)


def rule(site: Selector | str, *rules: Rule | Rules | list[Rule]) -> Edit:
    """State other rules of primitives, in force at a site alone.

    Args:
      site: a selector, or the pattern of a scope. What it chooses may hold programs, in which the
        rules are in force too.
      *rules: rules, as `fbp.rule` makes them.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Raises:
      fbp.InputError: when differentiating, the site has none of the primitives.

    >>> import fbp, jax.numpy as jnp
    >>> from jax import lax
    >>> straight_through = rule(fbp.at.primitive("round"), fbp.rule.derivative(
    ...     lax.round_p, lambda x, y: 1.0))
    >>> float(fbp.grad(jnp.round, rules=fbp.RULES | straight_through)(0.3))
    1.0
    """
    return RuleEdit(selector(site), Rules(*rules))


def region(site: Selector | str, function: Callable[..., Any]) -> Edit:
    """State the pullback of a whole site as one unit, in the place of its equations' rules.

    Args:
      site: a selector, or the pattern of a scope.
      function: f(cts, outs, ins) returns one cotangent, or None for zero, for each of the inputs:
        the values that the site reads from outside, in the order in which it reads them, parameters
        among them. `fbp.sites` prints them. If the site is one equation, f may name, keyword-only,
        the parameters of the equation that it reads.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Raises:
      fbp.InputError: when differentiating, no site is chosen, or sites overlap, or cut through the
        body of a loop, or f returns cotangents that do not fit.

    >>> import fbp, jax, jax.numpy as jnp
    >>> def f(x):
    ...     with jax.named_scope("wave"):
    ...         return jnp.sin(3 * x)
    >>> flat = region("wave", lambda cts, outs, ins: [cts[0]])
    >>> float(fbp.grad(f, rules=fbp.RULES | flat)(1.0))
    1.0
    """
    required(function, 3)
    return RegionEdit(selector(site), function)


def value(site: Selector | str, function: Callable[[Any], Any]) -> Edit:
    """Replace the values that a site computes, forward; the gradient goes through `function`.

    Args:
      site: a selector, or the pattern of a scope.
      function: from a value to one of the same shape and dtype.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Raises:
      fbp.InputError: when differentiating, no site is chosen, or the value does not fit.

    >>> import fbp, jax.numpy as jnp
    >>> doubled = value(fbp.at.primitive("sin"), lambda y: 2 * y)
    >>> y, slope = fbp.value_and_grad(jnp.sin, rules=fbp.RULES | doubled)(0.0)
    >>> print(y, slope)
    0.0 2.0
    """
    required(function, 1)
    return ValueEdit(selector(site), function)


def residuals(site: Selector | str, storage: Any) -> Edit:
    """Store otherwise what the backward pass reads of a site.

    Parameters, which are in memory anyway, are read as they are.

    Args:
      site: a selector, or the pattern of a scope.
      storage: a floating dtype, such as "bfloat16", or "e4m3" or "e5m2" for those of 8 bits, in
        which each array is scaled to its largest entry; "host" for host memory; "recompute" to
        store the inputs of the site alone and compute the rest again.

    Returns:
      An edit, for `fbp.RULES | edit`.

    Raises:
      fbp.InputError: the storage is none of these; when differentiating, no site is chosen, or
        sites overlap.

    >>> import fbp, jax.numpy as jnp
    >>> small = fbp.RULES | residuals(fbp.at.primitive("sin"), "bfloat16")
    >>> _, pullback = fbp.vjp(jnp.sin, jnp.ones(2), rules=small)
    >>> [str(r.dtype) for r in pullback.residuals]
    ['bfloat16']
    """
    return ResidualEdit(selector(site), storage_name(storage))
