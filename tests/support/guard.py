"""JAX's own reverse mode, made to raise."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import jax
from jax._src import api
from jax._src.interpreters import ad

PUBLIC = ("grad", "value_and_grad", "vjp", "linearize", "linear_transpose", "jacrev", "hessian")
INTERNAL = ("vjp", "jvp", "linearize", "linearize_jaxpr", "linearize_from_jvp", "linear_transpose",
            "linear_transpose2", "backward_pass", "backward_pass3")  # fmt: skip
TRACES = (ad.JVPTrace, ad.LinearizeTrace)


class JaxDifferentiated(AssertionError):
    """JAX was asked for a derivative."""


def _raise(*_, **__):
    raise JaxDifferentiated


@contextmanager
def without_jax_reverse_mode() -> Iterator[None]:
    """Within it, whatever JAX differentiates by raises: functions, passes, and tracers."""
    patches = [mock.patch.object(m, f, _raise) for m in (jax, api) for f in PUBLIC if hasattr(m, f)]
    patches += [mock.patch.object(ad, f, _raise) for f in INTERNAL if hasattr(ad, f)]
    patches += [
        mock.patch.object(trace, name, _raise)
        for trace in TRACES
        for name in vars(trace)
        if name.startswith("process_")
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()
