"""Let a function that others hold call another one, for a while."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any


@contextmanager
def redirect(function: FunctionType, around: Callable[[Callable], Callable]) -> Iterator[None]:
    """Within it, whoever calls `function` calls `around(original)`, where `original` does what
    `function` did.

    The function itself is changed, by its `__code__`, not a name in a module: so that those are
    reached too who imported it by name, or hold it in a partial application, a default argument or
    a closure.
    """
    code, defaults = function.__code__, function.__kwdefaults__
    original = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    original.__kwdefaults__ = defaults
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    # The code is changed alone, last and first: other threads may be calling.
    function.__kwdefaults__ = {**(defaults or {}), "_instead": around(original)}
    function.__code__ = _call.__code__
    try:
        yield
    finally:
        function.__code__ = code
        function.__kwdefaults__ = defaults
        del function.__signature__  # type: ignore[attr-defined]


def _call(*args: Any, _instead: Callable, **kwargs: Any) -> Any:
    return _instead(*args, **kwargs)
