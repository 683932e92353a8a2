"""What a config imports: a network, a loss, data, an optimizer or a whole problem.

- `[problem]`: a function of the table's other keys that returns a `Problem`.
- `[data]`: one that returns a `Dataset`, or the parts that `Problem` takes.
- `[network]`: one that returns a `Layer`; a Flax Linen module; Haiku's `transform` of one; or, with
  a loss of three arguments, `init(key) -> params`.
- `[loss]`: `loss(outputs, targets) -> losses` of the examples, or `loss(params, batch, key)`, as
  `Problem` takes it; the table's other keys are passed by name.
- `[metrics]`: `metrics(params, batch) -> {name: number}`, likewise.
- `[optimizer]`: one that makes an optax transformation of a trial's hyperparameters.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fbp.config import Imported
from fbp.errors import InputError
from fbp.nn import Layer
from fbp.train.user_code import running


def load_imported(imported: Imported, table: str) -> Any:
    """Import what a table names.

    Raises InputError, naming the table, where there is no such module or name.

    >>> load_imported(Imported("math:sqrt"), "loss")(4.0)
    2.0
    """
    module_name, _, names = imported.path.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with running(f"{table}.import: {module_name}"):
            value = importlib.import_module(module_name)
    finally:
        sys.path.remove(here)
    for name in names.split("."):
        if not hasattr(value, name):
            raise InputError(f"{table}.import: {module_name} has no {names}")
        value = getattr(value, name)
    return value


def call_imported(imported: Imported, table: str) -> Any:
    """Import what a table names, and call it with the table's other keys."""
    function = load_imported(imported, table)
    _check_arguments(function, imported, table)
    with running(f"{table}.import: {imported.path}"):
        return function(**imported.arguments)


def partial_imported(imported: Imported, table: str) -> Callable[..., Any]:
    """Import what a table names, with the table's other keys as arguments by name."""
    function = load_imported(imported, table)
    if not callable(function):
        raise InputError(f"{table}.import: {imported.path} is no function")
    _check_arguments(partial(function), imported, table)
    return partial(function, **imported.arguments) if imported.arguments else function


def as_layer(network: Any, table: str = "network") -> Layer:
    """Return the layer that a network of another library is.

    Raises InputError for what is neither a layer, nor a module of Flax Linen, nor Haiku's
    `Transformed`; and for one with a state, which takes a `[problem]`.
    """
    if isinstance(network, Layer):
        return network
    if _is_a("flax.linen", "Module", network):
        return _of_linen(network, table)
    if _is_a("haiku", "Transformed", network):
        return _of_haiku(network)
    raise InputError(
        f"{table}.import: it returns a {type(network).__name__}: give a Layer, a flax.linen.Module "
        "or haiku.Transformed; anything else takes [problem] import = ..."
    )


def positional(function: Callable[..., Any]) -> int:
    """Return how many arguments a function must be given.

    >>> positional(lambda outputs, targets, smoothing=0.1: None)
    2
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def _check_arguments(function: Any, imported: Imported, table: str) -> None:
    if not callable(function):
        raise InputError(f"{table}.import: {imported.path} is no function: name one")
    try:
        inspect.signature(function).bind_partial(**imported.arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{table}: {imported.path} does not take these keys: {error}") from error


def _is_a(module: str, name: str, value: Any) -> bool:
    """Return whether a value is of a library's class; of one that is not imported, nothing is."""
    cls = getattr(sys.modules.get(module), name, None)
    return cls is not None and isinstance(value, cls)


def _of_linen(module: Any, table: str) -> Layer:
    import jax
    import jax.numpy as jnp

    def init(key: Any, in_shape: tuple[int, ...]) -> Any:
        batch = jnp.zeros((1, *in_shape[1:]))
        variables = module.init(key, batch)
        if set(variables) != {"params"}:
            states = ", ".join(sorted(set(variables) - {"params"}))
            raise InputError(
                f"{table}: the module has {states} beside its parameters: give the whole as "
                "[problem] import = ..., with has_state"
            )
        out = jax.eval_shape(module.apply, variables, batch)
        return variables["params"], (in_shape[0], *out.shape[1:])

    def apply(params: Any, x: Any, *, key: Any = None) -> Any:
        rngs = {} if key is None else {"rngs": {"dropout": key}}
        return module.apply({"params": params}, x, **rngs)

    return Layer(init, apply)


def _of_haiku(transformed: Any) -> Layer:
    import jax
    import jax.numpy as jnp

    def init(key: Any, in_shape: tuple[int, ...]) -> Any:
        batch = jnp.zeros((1, *in_shape[1:]))
        params = transformed.init(key, batch)
        out = jax.eval_shape(transformed.apply, params, key, batch)
        return params, (in_shape[0], *out.shape[1:])

    return Layer(init, lambda params, x, *, key=None: transformed.apply(params, key, x))
