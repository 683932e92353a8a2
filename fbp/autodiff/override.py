"""JAX's reverse-mode transforms by fbp, for programs whose framework calls them itself.

The one place that changes what others see: decision 19. `jax.jvp`, `jax.linearize`, `jax.jacfwd`,
`jax.checkpoint` and the rules of custom_jvp and custom_vjp functions are none of reverse mode, and
stay JAX's.
"""

import functools
import inspect
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

import jax

from fbp.autodiff.authors import with_rules_of_authors
from fbp.autodiff.compat import backward_pass3
from fbp.autodiff.jacobian import hessian, jacrev
from fbp.autodiff.redirect import redirect
from fbp.autodiff.rule import Rules
from fbp.autodiff.stated_for_jax import num_stated
from fbp.autodiff.table import RULES
from fbp.autodiff.transforms import grad, value_and_grad, vjp
from fbp.autodiff.transposition import linear_transpose

OF_FUNCTIONS = (grad, value_and_grad, jacrev, hessian)
AT_ONCE = (vjp, linear_transpose)
LIBRARIES = tuple(f"{folder}{os.sep}" for folder in (*jax.__path__, Path(__file__).parents[1]))

_rules_in_force = jax.make_user_context(None)  # part of the key of jit's cache
_lock = threading.Lock()
_open: list["OverrideReport"] = []
_redirections = ExitStack()


@dataclass(eq=False)
class OverrideReport:
    """What happened within an `override_jax`.

    Attributes:
      gradients: how often fbp differentiated, by the transform of JAX that was called. In a jitted
        function a gradient counts once for each time that it is traced.
      by_jax: the lines at which JAX transposed a program all the same: of libraries that call what
        lies beneath `jax.vjp`.
    """

    gradients: Counter[str] = field(default_factory=Counter)
    by_jax: Counter[str] = field(default_factory=Counter)
    thread: int | None = None
    """The thread that it is about; None for all."""

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {n:,}" for name, n in sorted(self.gradients.items()))
        total = self.gradients.total()
        text = f"fbp made {total:,} gradient{'' if total == 1 else 's'}"
        text += f" ({kinds}; one in a jitted function counts when it is traced)" if kinds else ""
        if self.by_jax:
            text += f". Not reached: JAX itself differentiated at {', '.join(self.by_jax)}"
        return text + "."


@contextmanager
def override_jax(rules: Rules = RULES) -> Iterator[OverrideReport]:
    """Within it, JAX's reverse-mode transforms are fbp's, for libraries that call them themselves.

    `jax.grad`, `value_and_grad`, `vjp`, `jacrev`, `jacobian`, `hessian`, `linear_transpose` and
    `fwd_and_bwd` differentiate by fbp when what they return is called within, wherever they were
    imported and whenever they decorated. jit traces anew, and finds what it compiled the last time
    with the same rules. Like JAX's own context managers it holds for the thread that enters it.
    `fbp.verify` compares with JAX's gradients within it too.

    Not reached are programs that were compiled ahead of time or staged to a jaxpr before, pullbacks
    made before, other processes, and code that calls what lies beneath `jax.vjp`.

    Args:
      rules: the table of rules to differentiate by. The rules of authors (`fbp.rules_of_authors`)
        are added, of libraries imported within too.

    Returns:
      A context manager, and a decorator. As a variable it is a report: how many gradients fbp made,
      and at which lines JAX differentiated all the same.

    Warns:
      UserWarning: at the end, if JAX did.

    >>> import fbp, jax, jax.numpy as jnp
    >>> with fbp.override_jax() as report:
    ...     print(jax.grad(jnp.tanh)(0.2))
    0.961043
    >>> print(report)
    fbp made 1 gradient (grad 1; one in a jitted function counts when it is traced).
    """
    report = OverrideReport(thread=threading.get_ident())
    with _reported(report), _rules_in_force(_checked(rules)):
        yield report
    if report.by_jax:
        warnings.warn(f"within fbp.override_jax {report}", stacklevel=3)


@contextmanager
def override_jax_in_all_threads(rules: Rules = RULES) -> Iterator[OverrideReport]:
    """Within it, JAX's reverse-mode transforms are fbp's in every thread that has not entered
    another `override_jax`."""
    report = OverrideReport()
    before = _rules_in_force.get_global()
    with _reported(report):
        _rules_in_force.set_global(_checked(rules))
        try:
            yield report
        finally:
            _rules_in_force.set_global(before)


@contextmanager
def by_jax() -> Iterator[None]:
    """Within it, JAX's transforms are JAX's, though it lie within an `override_jax`."""
    with _rules_in_force(None):
        yield


def as_overridden_now(fun: Callable) -> Callable:
    """Return the same function, under the override that is in force now, if any is."""
    rules = _rules_in_force.value

    @functools.wraps(fun)
    def run(*args, **kwargs):
        with _rules_in_force(rules):
            return fun(*args, **kwargs)

    return run


def _checked(rules: Any) -> Rules:
    if not isinstance(rules, Rules):
        raise TypeError(f"rules must be a table, as fbp.RULES | rule is, but got {rules!r}.")
    return rules


def _rules() -> Rules | None:
    """Return the rules in force, None for JAX's."""
    rules = _rules_in_force.value
    return None if rules is None else _with_rules_of_authors(rules, num_stated())


@functools.lru_cache(maxsize=8)
def _with_rules_of_authors(rules: Rules, _: tuple[int, ...]) -> Rules:
    """Look for rules of authors again when there are more rules than before."""
    return with_rules_of_authors(rules)


@contextmanager
def _reported(report: OverrideReport) -> Iterator[None]:
    """Redirect JAX's transforms as long as a report is open."""
    with _lock:
        if not _open:
            _redirect()
        _open.append(report)
    try:
        yield
    finally:
        with _lock:
            _open.remove(report)
            if not _open:
                _redirections.close()


def _redirect() -> None:
    with ExitStack() as stack:
        for function, around in REDIRECTED.items():
            stack.enter_context(redirect(function, around))
        _redirections.push(stack.pop_all())


def _of_function(mine: Callable, original: Callable) -> Callable:
    """Let a transform return a function that chooses when it is called, by fbp or by JAX."""

    def transform(*args: Any, **kwargs: Any) -> Callable:
        by_jax = original(*args, **kwargs)
        bound = inspect.signature(original).bind(*args, **kwargs)
        options = _options(mine, original, bound.arguments)

        @functools.wraps(by_jax)
        def differentiated(*args, **kwargs):
            rules = _rules()
            if rules is None:
                return by_jax(*args, **kwargs)
            _count(mine)
            return mine(**options, rules=rules)(*args, **kwargs)

        return differentiated

    return transform


def _at_once(mine: Callable, original: Callable) -> Callable:
    def transform(fun: Callable, *primals: Any, **kwargs: Any) -> Any:
        rules = _rules()
        if rules is None:
            return original(fun, *primals, **kwargs)
        options = _options(mine, original, kwargs)
        _count(mine)
        return mine(fun, *primals, **options, rules=rules)

    return transform


def _options(mine: Callable, original: Callable, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that fbp's transform has; the others must say nothing."""
    accepted = inspect.signature(mine).parameters
    parameters = inspect.signature(original).parameters
    for name, value in arguments.items():
        if name not in accepted and (name not in parameters or value != parameters[name].default):
            raise NotImplementedError(f"fbp.{mine.__name__} takes no argument '{name}'.")
    return {name: value for name, value in arguments.items() if name in accepted}


def _noted(original: Callable) -> Callable:
    """Let JAX's own backward pass say where it runs within an override."""

    def backward_pass(*args: Any, **kwargs: Any) -> Any:
        if _rules_in_force.value is not None:
            line = _line_of_user()
            for report in _reports():
                report.by_jax[line] += 1
        return original(*args, **kwargs)

    return backward_pass


def _count(transform: Callable) -> None:
    for report in _reports():
        report.gradients[transform.__name__] += 1


def _reports() -> list[OverrideReport]:
    """Return the reports that are open in this thread."""
    return [r for r in list(_open) if r.thread in (None, threading.get_ident())]


def _line_of_user() -> str:
    """Return the innermost line that is neither JAX's nor fbp's."""
    frame = sys._getframe()
    while frame.f_back and frame.f_code.co_filename.startswith(LIBRARIES):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _of_jax(mine: Callable) -> FunctionType:
    return inspect.unwrap(getattr(jax, mine.__name__))


REDIRECTED = {
    **{_of_jax(t): functools.partial(_of_function, t) for t in OF_FUNCTIONS},
    **{_of_jax(t): functools.partial(_at_once, t) for t in AT_ONCE},
    backward_pass3: _noted,
}
"""JAX's functions, and what is called instead; jax.jacobian and jax.fwd_and_bwd call these."""
