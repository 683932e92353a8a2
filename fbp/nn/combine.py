"""Combine layers: in sequence, side by side, around a shortcut."""

from collections.abc import Mapping

import jax.numpy as jnp

from fbp.nn.layer import Layer, LayerError, Params, Shape, child_scope, keys_for, named_layer


def serial(*layers: Layer, **named_layers: Layer) -> Layer:
    """Compose layers in sequence: y = f_n(... f_2(f_1(x))).

    The parameters are a dict with one entry for each layer, `{}` for one that has none.

    Args:
      layers: layers by position, which are called `0_dense`, `1_relu`, ...
      named_layers: layers that come after them, called by their keywords.

    Returns:
      The layer, named `serial`.

    Raises:
      LayerError: by `init` and `apply`, with the path of the layer at fault, where one of them
        raises, and where parameters belong to other layers.

    >>> import jax
    >>> from fbp.nn import dense, relu, serial
    >>> network = serial(dense(16), relu(), head=dense(3))
    >>> params, out_shape = network.init(jax.random.key(0), (-1, 4))
    >>> sorted(params), out_shape
    (['0_dense', '1_relu', 'head'], (-1, 3))
    >>> network.apply(params, jnp.ones((5, 7)))
    Traceback (most recent call last):
    ...
    fbp.nn.layer.LayerError: serial/0_dense: an input [5, 7] needs bias [16], kernel [7, 16], \
the parameters have bias [16], kernel [4, 16]
    """
    return named_layer("serial", *_chain("serial", _children(layers, named_layers)))


def parallel(*layers: Layer, **named_layers: Layer) -> Layer:
    """Apply layers side by side to one input and concatenate: y = [f_1(x), ..., f_n(x)].

    Outputs are concatenated along the last axis; their other axes must be the same.

    Args:
      layers: layers by position, named as in `serial`.
      named_layers: layers that come after them, called by their keywords.

    Returns:
      The layer, named `parallel`; its parameters are a dict as those of `serial`.

    Raises:
      LayerError: for no layers; and by `init` and `apply`, with the path, where one of the layers
        raises, where outputs cannot be concatenated, and where parameters belong to other layers.

    Source: Szegedy et al. 2015, Going deeper with convolutions (inception blocks).

    >>> import jax
    >>> from fbp.nn import conv, parallel
    >>> block = parallel(narrow=conv(8, (1, 1)), wide=conv(4, (3, 3)))
    >>> block.init(jax.random.key(0), (-1, 28, 28, 1))[1]
    (-1, 28, 28, 12)
    """
    children = _children(layers, named_layers)
    if not children:
        raise LayerError(("parallel",), "no layers were given: give one or more")

    def init(key, in_shape):
        params, shapes = {}, {}
        for name, k in keys_for(children, key).items():
            with child_scope("parallel", name):
                params[name], shapes[name] = children[name].init(k, tuple(in_shape))
        return params, _joined(shapes)

    def apply(params, x, *, key=None):
        _check_children("parallel", params, children)
        outputs = {}
        for name, k in keys_for(children, key).items():
            with child_scope("parallel", name):
                outputs[name] = children[name].apply(params[name], x, key=k)
        _joined({name: y.shape for name, y in outputs.items()})
        return jnp.concatenate(list(outputs.values()), axis=-1)

    return named_layer("parallel", init, apply)


def residual(*layers: Layer, **named_layers: Layer) -> Layer:
    """Add a shortcut around layers: y = x + f_n(... f_1(x)).

    Args:
      layers: layers by position, named as in `serial`.
      named_layers: layers that come after them, called by their keywords.

    Returns:
      The layer, named `residual`; its parameters are a dict as those of `serial`.

    Raises:
      LayerError: by `init` and `apply`, with the path, where one of the layers raises, where the
        output does not have the input's shape, and where parameters belong to other layers.

    Source: He et al. 2016, Deep residual learning for image recognition.

    >>> import jax
    >>> from fbp.nn import dense, relu, residual
    >>> residual(relu(), dense(4)).init(jax.random.key(0), (-1, 3))
    Traceback (most recent call last):
    ...
    fbp.nn.layer.LayerError: residual: the layers make [-1, 4] of an input [-1, 3]: \
both must have one shape to be added
    """
    chain = _chain("residual", _children(layers, named_layers))

    def init(key, in_shape):
        params, out_shape = chain.init(key, in_shape)
        _check_addable(tuple(in_shape), out_shape)
        return params, out_shape

    def apply(params, x, *, key=None):
        y = chain.apply(params, x, key=key)
        _check_addable(x.shape, y.shape)
        return x + y

    return named_layer("residual", init, apply)


def _children(layers: tuple[Layer, ...], named_layers: Mapping[str, Layer]) -> dict[str, Layer]:
    return {f"{i}_{layer.name}": layer for i, layer in enumerate(layers)} | dict(named_layers)


def _chain(outer: str, children: Mapping[str, Layer]) -> Layer:
    def init(key, in_shape):
        params, shape = {}, tuple(in_shape)
        for name, k in keys_for(children, key).items():
            with child_scope(outer, name):
                params[name], shape = children[name].init(k, shape)
        return params, shape

    def apply(params, x, *, key=None):
        _check_children(outer, params, children)
        for name, k in keys_for(children, key).items():
            with child_scope(outer, name):
                x = children[name].apply(params[name], x, key=k)
        return x

    return Layer(init, apply)


def _check_children(outer: str, params: Params, children: Mapping[str, Layer]) -> None:
    if set(params) != set(children):
        raise LayerError(
            (outer,),
            f"the layers are {', '.join(children)}, the parameters are of "
            f"{', '.join(sorted(params)) or 'none'}: give those that init returns",
        )


def _joined(shapes: Mapping[str, Shape]) -> Shape:
    first, *others = shapes.values()
    if not first or any(shape[:-1] != first[:-1] for shape in others):
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise LayerError(
            ("parallel",), f"the outputs are {listed}: all axes but the last must be the same"
        )
    return (*first[:-1], sum(shape[-1] for shape in shapes.values()))


def _check_addable(before: Shape, after: Shape) -> None:
    if before != after:
        raise LayerError(
            ("residual",),
            f"the layers make {list(after)} of an input {list(before)}: "
            "both must have one shape to be added",
        )
