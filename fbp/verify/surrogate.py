"""A custom rule beside the derivative of the function that it is declared to stand for."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import avals, user_rules
from fbp.autodiff.masks import select
from fbp.autodiff.user_arguments import arguments_of
from fbp.verify import oracle
from fbp.verify.declared import Declaration
from fbp.verify.precision import DOUBLE, in_precision
from fbp.verify.report import Kind
from fbp.verify.rule_use import RuleUse
from fbp.verify.verdict import Verdict

MULTIPLE = 10
"""How many times the error of the surrogate's own derivative the rule's may be."""


def beside_surrogate(
    use: RuleUse,
    operand: int,
    stated: Any,
    ins: Sequence[Any],
    cts: Sequence[Any],
    declared: Declaration,
) -> Verdict:
    """Return the verdict on what a rule states with these cotangents."""
    num_consts = user_rules.constants_before(use.eqn)
    rest = [jnp.asarray(x) for x in ins[num_consts:]]
    number = operand - num_consts

    def weighed(x: Any, cts: Sequence[Any], leaves: Sequence[Any]) -> Any:
        changed = [*leaves[:number], x, *leaves[number + 1 :]]
        arguments = arguments_of(use.eqn, changed, declared.nondiff_argnums)
        assert callable(declared.stands_for)
        outs = jax.tree.leaves(declared.stands_for(*arguments))
        return sum(
            jnp.sum(ct.astype(y.dtype) * y)
            for ct, y in zip(cts, select(use.arrived, outs), strict=True)
        )

    gradient = oracle.grad(weighed)
    narrow = np.asarray(jax.jit(gradient)(rest[number], cts, rest), np.float64)
    program = in_precision(DOUBLE, gradient, rest[number], cts, rest)
    with jax.enable_x64(True):
        truth = np.asarray(jax.jit(program)(rest[number], cts, rest), np.float64)
    apart = abs(np.asarray(stated, np.float64) - truth)
    size = max(float(np.max(abs(truth), initial=0)), 1e-300)
    eps = float(jnp.finfo(avals.struct(use.eqn.invars[operand]).dtype).eps)
    bar = MULTIPLE * max(float(np.max(abs(narrow - truth))), eps * size)
    if float(np.max(apart)) <= bar:
        return Verdict(Kind.DECLARED, "is the derivative of the function that was declared")
    entry = int(np.argmax(apart))
    reason = "is not the derivative of the function that was declared in its place"
    expected, got = truth.ravel()[entry], np.ravel(np.asarray(stated, np.float64))[entry]
    return Verdict(Kind.WRONG_CUSTOM_RULE, reason, entry, float(expected), float(got))
