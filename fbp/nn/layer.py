"""A layer is two pure functions; `make_layer` makes one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Key

from fbp.errors import InputError

Shape = tuple[int, ...]
Params = dict[str, Any]
Init = Callable[[Key[Array, ""], Shape], tuple[Params, Shape]]
Apply = Callable[..., Array]
Initializer = Callable[[Key[Array, ""], Shape, DTypeLike], Array]


class Layer(NamedTuple):
    """A layer, or a network of them: how to draw its parameters, and how to apply it.

    - `init(key, in_shape) -> (params, out_shape)`: shapes include the batch, which comes first;
      its size does not matter (-1 will do). `params` are nested dicts of arrays.
    - `apply(params, x, *, key=None) -> y`: pure. Without a key nothing random happens, as is
      meant for evaluation.

    Both raise LayerError for shapes that do not fit.

    >>> import jax
    >>> from fbp.nn import dense
    >>> init, apply = dense(3)
    >>> params, out_shape = init(jax.random.key(0), (-1, 2))
    >>> jax.tree.map(jnp.shape, params), out_shape
    ({'bias': (3,), 'kernel': (2, 3)}, (-1, 3))
    >>> apply(params, jnp.ones((5, 2))).shape
    (5, 3)
    """

    init: Init
    apply: Apply

    @property
    def name(self) -> str:
        """The name that `serial` gives the layer by default: `apply.__name__`."""
        return getattr(self.apply, "__name__", "layer")


class LayerError(InputError):
    """Something does not fit a layer; the message begins with the layer's path.

    Attributes:
      path: names from the outermost layer to the one at fault.
      reason: what does not fit, with the shapes.

    >>> raise LayerError(("serial", "2_dense"), "the input must have features, got []")
    Traceback (most recent call last):
    ...
    fbp.nn.layer.LayerError: serial/2_dense: the input must have features, got []
    """

    def __init__(self, path: tuple[str, ...], reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{'/'.join(self.path)}: {self.reason}"


class Parameter(NamedTuple):
    """One array of parameters: its shape, and the distribution that it is drawn from.

    >>> from jax.nn.initializers import zeros
    >>> Parameter((3,), zeros).shape
    (3,)
    """

    shape: Shape
    initializer: Initializer


def make_layer(
    name: str,
    forward: Callable[[Params, Any], Array],
    out_shape: Callable[[Shape], Shape],
    parameters: Callable[[Shape], Mapping[str, Parameter]] = lambda _: {},
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Make a layer from what is particular to it.

    Args:
      name: what errors and automatic names call it.
      forward: `(params, x) -> y`.
      out_shape: the output's shape, from the input's; raises LayerError for a wrong one.
      parameters: the arrays in `params`, from the input's shape.
      dtype: their dtype. They are drawn in float32 or wider.

    Returns:
      The layer.

    Raises:
      LayerError: by `init` and `apply`, where `out_shape` does; by `init`, where a size is not
        positive; by `apply`, where the parameters are not those that the input's shape needs.

    >>> import jax
    >>> from jax.nn.initializers import ones
    >>> scale = make_layer(
    ...     "scale", lambda params, x: x * params["by"],
    ...     out_shape=lambda in_shape: in_shape,
    ...     parameters=lambda in_shape: {"by": Parameter((), ones)},
    ... )
    >>> params, _ = scale.init(jax.random.key(0), (-1, 2))
    >>> print(scale.apply(params, jnp.array([[3.0, 4.0]])))
    [[3. 4.]]
    """

    def init(key, in_shape):
        in_shape = tuple(in_shape)
        after, declared = out_shape(in_shape), parameters(in_shape)
        shapes = {p: declared[p].shape for p in declared}
        if any(size < 1 for shape in shapes.values() for size in shape):
            raise LayerError(
                (name,),
                f"an input {list(in_shape)} would need {_listed(shapes)}: "
                "every size but the batch must be 1 or more",
            )
        return _draw(key, declared, dtype), after

    def apply(params, x, *, key=None):
        del key
        out_shape(x.shape)
        expected = {p: parameter.shape for p, parameter in parameters(x.shape).items()}
        got = {p: jnp.shape(value) for p, value in params.items()}
        if got != expected:
            raise LayerError(
                (name,),
                f"an input {list(x.shape)} needs {_listed(expected)}, "
                f"the parameters have {_listed(got)}",
            )
        return forward(params, x)

    return named_layer(name, init, apply)


def named_layer(name: str, init: Init, apply: Apply) -> Layer:
    """Make a layer of these two functions, with this name for errors and automatic names."""
    apply.__name__ = name
    return Layer(init, apply)


@contextmanager
def child_scope(outer: str, child: str) -> Iterator[None]:
    """Run a child of a layer, so that its equations and errors carry its path in the network."""
    try:
        with jax.named_scope(child):
            yield
    except LayerError as error:
        raise LayerError((outer, child, *error.path[1:]), error.reason) from None


def keys_for(names: Iterable[str], key: Any) -> dict[str, Any]:
    """Return a key for each name, by its position; None for each where `key` is None."""
    return {
        name: None if key is None else jax.random.fold_in(key, i) for i, name in enumerate(names)
    }


def at_least_float32(dtype: DTypeLike) -> DTypeLike:
    """Return the dtype, or float32 instead of a narrower one."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _draw(key: Any, declared: Mapping[str, Parameter], dtype: DTypeLike) -> Params:
    wide = at_least_float32(dtype)
    return {
        name: declared[name].initializer(k, declared[name].shape, wide).astype(dtype)
        for name, k in keys_for(declared, key).items()
    }


def _listed(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())) or "none"
