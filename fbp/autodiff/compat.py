"""JAX versions and names without a public home: the only module that imports `jax._src`."""

from collections.abc import Sequence
from contextlib import suppress
from inspect import signature
from typing import Any

from jax._src.api import NotNeeded  # no public name, nor has NotSaveable
from jax._src.core import (  # no public names, nor have the next two
    empty_ref_p,
    get_axis_env,
    ref_p,
)
from jax._src.hijax import call_hi_primitive_p
from jax._src.interpreters.ad import (  # the first two are public since JAX 0.11
    NullAccum,
    ValAccum,
    backward_pass3,
)
from jax._src.lax.lax import from_edtype_p, to_edtype_p  # no public names
from jax._src.source_info_util import Scope  # no public name
from jax._src.state.discharge import discharge_state, run_state_p
from jax._src.state.primitives import addupdate_p
from jax.extend.core import (
    Primitive,
    primitives,
)

NotSaveable: Any = None
with suppress(ImportError):  # since JAX 0.12
    from jax._src.api import NotSaveable  # type: ignore[no-redef]

MAKES = frozenset({ref_p, empty_ref_p})


WRITES = frozenset({primitives.swap_p, addupdate_p})


def named_primitives(*names: str) -> list[Primitive]:
    """Return those of the named primitives that this version of JAX has."""
    return [getattr(primitives, name) for name in names if hasattr(primitives, name)]


def scan_counts(params: dict[str, Any]) -> tuple[int, int]:
    """Return how many of a scan's operands are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))


def scopes(eqn: Any) -> tuple[str, ...]:
    """Return the named scopes of an equation, from the outside; the names of transforms, such as
    `vmap`, are none."""
    return tuple(x.name for x in eqn.source_info.name_stack.stack if isinstance(x, Scope))


def interpret_kernel(eqn: Any, args: Sequence[Any]) -> list[Any]:
    """Run a Pallas kernel as the program of loops and slices that its interpreter makes of it."""
    from jax._src.pallas.hlo_interpreter import pallas_call_hlo_interpret  # slow to import

    run: Any = pallas_call_hlo_interpret
    known = signature(run).parameters
    params = {key: value for key, value in eqn.params.items() if key in known}
    return list(run(*args, **params | {"debug": False}))


__all__ = [
    "MAKES",
    "WRITES",
    "NotNeeded",
    "NotSaveable",
    "NullAccum",
    "ValAccum",
    "addupdate_p",
    "backward_pass3",
    "call_hi_primitive_p",
    "discharge_state",
    "empty_ref_p",
    "from_edtype_p",
    "get_axis_env",
    "interpret_kernel",
    "named_primitives",
    "ref_p",
    "run_state_p",
    "scan_counts",
    "scopes",
    "to_edtype_p",
]
