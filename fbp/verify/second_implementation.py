"""The values of a function beside those of a second implementation, which is the truth."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff.avals import is_inexact
from fbp.verify.precision import DOUBLE, SINGLE, in_precision
from fbp.verify.problem import CheckedFunction
from fbp.verify.reference import MARGIN, as_double, compared, eps_of
from fbp.verify.report import Finding, Kind


def wrong_values(problem: CheckedFunction, truth: CheckedFunction) -> list[Finding]:
    """Return the outputs of a function that differ from those of the reference in float64 by more
    than rounding does to the reference's own."""
    got, got_tree = jax.tree_util.tree_flatten_with_path(_value(problem))
    narrow, tree = jax.tree.flatten(_value(truth))
    if jax.tree.structure(jax.tree.unflatten(got_tree, [x for _, x in got])) != tree:
        message = f"the function returns {got_tree}, the reference {tree}."
        return [Finding(Kind.WRONG_VALUE, message)]
    double = jax.tree.leaves(_in_double(truth, narrow))
    findings = []
    for (path, x), r, f in zip(got, narrow, double, strict=True):
        name = f"the output{jax.tree_util.keystr(path)}"
        if jnp.shape(x) != jnp.shape(r):
            message = f"{name} is of shape {jnp.shape(x)}, that of the reference {jnp.shape(r)}."
            findings.append(Finding(Kind.WRONG_VALUE, message))
        elif is_inexact(jnp.result_type(r)) and np.size(r):
            findings += _differing(name, jnp.asarray(x), jnp.asarray(r), f)
        elif not np.array_equal(x, r):
            findings.append(Finding(Kind.WRONG_VALUE, f"{name} differs from the reference's."))
    return findings


def _value(problem: CheckedFunction) -> Any:
    return problem.fun(*problem.at(*problem.point))


def _in_double(problem: CheckedFunction, otherwise: Any) -> Any:
    """Return the value in float64; as it is where the function cannot be traced."""
    try:
        arrays = list(problem.arrays)
        leaves = [arrays[i] for i in problem.positions]
        program = in_precision(
            DOUBLE, lambda leaves, arrays: problem.fun(*problem.at(leaves, arrays)), leaves, arrays
        )
        with jax.enable_x64(True):
            return jax.jit(program)(leaves, arrays)
    except Exception:  # a function of another library
        return otherwise


def _differing(name: str, x: Any, narrow: Any, double: Any) -> list[Finding]:
    want = as_double(double)
    eps = max(eps_of(x), eps_of(SINGLE.cast(narrow)) if x.dtype != jnp.float64 else 0.0)
    size = float(np.max(abs(want), initial=0))
    noise = float(np.max(abs(as_double(narrow) - want), initial=0))
    verdict = compared(name, x, want, MARGIN * max(noise, eps * size), eps, "the reference")
    if verdict.ok:
        return []
    message = f"{name} differs from that of the reference implementation."
    return [
        Finding(
            Kind.WRONG_VALUE,
            message,
            index=verdict.index,
            expected=verdict.expected,
            got=verdict.got,
            error_ulps=verdict.max_ulps,
        )
    ]
