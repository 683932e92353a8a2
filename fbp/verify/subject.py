"""What is checked: fbp's gradient, or any function that gives one, in whatever way it is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbp.autodiff import grad
from fbp.autodiff import graph as g
from fbp.autodiff.avals import is_inexact
from fbp.autodiff.flat_function import NEEDS_A_VALUE
from fbp.autodiff.rule import Rules
from fbp.verify.problem import CheckedFunction
from fbp.verify.reference import first_line
from fbp.verify.report import Finding, Kind

VALUE_AND_GRADIENT = (
    "gradient= returns (value, gradient), as jax.value_and_grad does: the second is checked."
)
WITH_AUX = (
    "gradient= returns (gradient, aux): the first is checked, of the function's first output."
)


@dataclass(frozen=True)
class Subject:
    """A gradient, computed once.

    Attributes:
      problem: what it is the gradient of: of a function that returns (loss, aux), the loss.
      function: the gradient as a function of (leaves, arrays).
      value: its leaves at the point; None in the place of one that is missing or does not fit.
      findings: what does not fit, and what was taken for the gradient.
      untraceable: why it cannot be traced, if it cannot: then it is checked at one point alone.
    """

    problem: CheckedFunction
    function: Callable
    value: list[Any]
    findings: tuple[Finding, ...] = ()
    untraceable: str = ""


def by_fbp(problem: CheckedFunction, rules: Rules) -> Subject:
    """fbp's gradient by a table of rules. Raises what `fbp.grad` raises."""
    gradient = grad(problem.loss, rules=rules)
    function, untraceable = jax.jit(gradient), ""
    try:
        value = list(function(*problem.point))
    except NEEDS_A_VALUE as error:  # for Python's if, which has one without jit
        function, untraceable = gradient, first_line(error)
        value = list(function(*problem.point))
    findings = [
        _unlike(name, x, leaf)
        for name, x, leaf in zip(problem.names, value, problem.leaves, strict=True)
        if x.dtype != leaf.dtype
    ]
    return Subject(problem, function, value, tuple(findings), untraceable)


def by_user(problem: CheckedFunction, gradient: Callable) -> Subject:
    """Return a gradient with the signature of `jax.grad(fun, argnums)`, of another library or by
    hand.

    It may also be of the form of `jax.value_and_grad`, or of a function with aux.
    """
    result = gradient(*problem.at(*problem.point))
    pick, problem, note = _form(problem, result)
    value, findings = _leaves(problem, pick(result))

    def function(leaves: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
        value, _ = _leaves(problem, pick(gradient(*problem.at(leaves, arrays))))
        return [jnp.zeros_like(x) if v is None else v for x, v in zip(leaves, value, strict=True)]

    try:
        g.stage(function, *problem.point)
        untraceable = ""
    except Exception as error:  # whatever a function of another library raises
        untraceable = first_line(error)
    notes = [Finding(Kind.NOTE, note)] if note else []
    return Subject(problem, function, value, (*findings, *notes), untraceable)


def repeated(subject: Subject) -> list[Any]:
    """Return the gradient once more, at the same point."""
    value = subject.function(*subject.problem.point)
    return [None if v is None else x for v, x in zip(subject.value, value, strict=True)]


def _form(problem: CheckedFunction, result: Any) -> tuple[Callable, CheckedFunction, str]:
    """Return how the gradient is taken from what the function returned; of which function it is."""
    fitting = _fits(problem, result)
    if fitting == len(problem.names) or not isinstance(result, tuple) or len(result) != 2:
        return lambda x: x, problem, ""
    first, second = (_fits(problem, x) for x in result)
    if second > max(first, fitting) and np.size(jax.tree.leaves(result[0])[0]) == 1:
        note = VALUE_AND_GRADIENT
        return lambda x: x[1], problem, note
    if first > max(second, fitting):
        loss = replace(problem, fun=_without_aux(problem.fun))
        note = WITH_AUX
        return lambda x: x[0], loss, note
    return lambda x: x, problem, ""


def _without_aux(fun: Callable) -> Callable:
    def loss(*args: Any) -> Any:
        out = fun(*args)
        return out[0] if isinstance(out, tuple) and len(out) == 2 else out

    loss.__name__ = getattr(fun, "__name__", type(fun).__name__)
    return loss


def _fits(problem: CheckedFunction, gradient: Any) -> int:
    """Return how many leaves a result has that are gradients by their paths and shapes."""
    by_path = _by_path(problem, gradient)
    return sum(
        by_key is not None and np.shape(by_key) == np.shape(leaf)
        for by_key, leaf in zip(map(by_path.get, problem.paths), problem.leaves, strict=True)
    )


def _by_path(problem: CheckedFunction, gradient: Any) -> dict[tuple[Any, ...], Any]:
    """Return the leaves of a gradient by the path of the argument's leaf."""
    chosen = problem.argnums
    parts = [gradient] if problem.single else gradient
    if not isinstance(parts, tuple | list) or len(parts) != len(chosen):
        return {}
    by_key = {}
    for number, part in zip(chosen, parts, strict=True):
        flat, _ = jax.tree_util.tree_flatten_with_path(part, is_leaf=lambda x: x is None)
        key = jax.tree_util.SequenceKey(number)
        by_key |= {(key, *path): leaf for path, leaf in flat}
    return by_key


def _leaves(problem: CheckedFunction, gradient: Any) -> tuple[list[Any], list[Finding]]:
    """Return the gradient's leaves, None for those that are missing or do not fit, and what is
    wrong."""
    by_path = _by_path(problem, gradient)
    in_order = [x for x in jax.tree.leaves(gradient) if _is_number(x)]
    named = any(path in by_path for path in problem.paths)
    if not named and len(in_order) == len(problem.names):
        by_path = dict(zip(problem.paths, in_order, strict=True))
    value: list[Any] = []
    findings = []
    for name, path, leaf in zip(problem.names, problem.paths, problem.leaves, strict=True):
        x = by_path.get(path)
        fits = x is not None and _is_number(x) and np.shape(x) == np.shape(leaf)
        if fits and not is_inexact(_dtype(x)):
            fits = False
        if not fits:
            findings.append(_misfit(name, x, leaf, path in by_path))
        value.append((x if hasattr(x, "dtype") else jnp.asarray(x)) if fits else None)
    return value, findings


def _is_number(x: Any) -> bool:
    if isinstance(x, jax.Array | np.ndarray | np.generic):
        return True
    return isinstance(x, int | float | complex) and not isinstance(x, bool)


def _dtype(x: Any) -> Any:
    return jax.typeof(x).dtype if isinstance(x, jax.Array) else np.asarray(x).dtype


def _misfit(name: str, x: Any, leaf: Any, present: bool) -> Finding:
    want = f"{leaf.dtype}{list(np.shape(leaf))}"
    if x is None:
        how = "is None" if present else "is missing"
    elif not _is_number(x):
        how = f"is of type {type(x).__name__}, which is no array"
    else:
        how = f"is {_dtype(x)}{list(np.shape(x))}"
    return Finding(
        Kind.STRUCTURE,
        f"the gradient of {name} {how}, where its argument is {want}: give a gradient of the "
        "structure, the shapes and the dtypes of the arguments, as jax.grad does.",
        leaf=name,
    )


def _unlike(name: str, x: Any, leaf: Any) -> Finding:
    return Finding(
        Kind.STRUCTURE,
        f"the gradient of {name} is of dtype {x.dtype}, its argument of {leaf.dtype}: a custom "
        "rule on the way returns a cotangent of another dtype than its operand has.",
        leaf=name,
    )
