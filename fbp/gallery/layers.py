"""Layers as sites: products of a weight and an activation, in any framework's model.

A weight is a parameter that is differentiated, cast or moved at most; the other operand is none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import primitives as p
from jaxtyping import Array

import fbp
from fbp.autodiff.edits.kinds import RegionEdit
from fbp.autodiff.edits.program import NamedProgram
from fbp.autodiff.edits.selectors import Selector, selector
from fbp.autodiff.edits.site_primitive import SiteEdit, read_operands
from fbp.autodiff.interpret import bind
from fbp.autodiff.restage import Key, Site
from fbp.autodiff.rule import Applied, Call, Edit
from fbp.gallery.uses import PRODUCTS, EnclosingScan, ParameterUse, uses


@dataclass(frozen=True)
class Layers(Selector):
    """Chooses the products of a parameter, in the order in which they run."""

    among: Selector | None = None
    uses: Mapping[Key, ParameterUse] = field(default_factory=dict, compare=False)
    numbered: bool = False

    def __repr__(self) -> str:
        return "layers()" if self.among is None else f"layers({self.among})"

    def resolve(self, program: NamedProgram) -> Selector:
        """Find the layers of a program."""
        among = None if self.among is None else self.among.resolve(program)
        by_site: dict[Key, list[ParameterUse]] = {}
        for use in uses(program.graph, len(program.graph.invars)):
            if use.site.eqn.primitive in PRODUCTS:
                by_site.setdefault(use.site.key, []).append(use)
        single = {key: one for key, (one, *more) in by_site.items() if not more}
        return replace(self, among=among, uses=single)

    def match(self, site: Site) -> tuple[bool, bool]:
        """Say whether an equation is a layer. One whose weight is sliced by a scan is chosen by
        iteration if their numbers are asked for."""
        if site.key not in self.uses:
            return False, False
        hit, always = (True, True) if self.among is None else self.among.match(site)
        sliced = any(loop.sliced for loop in self.uses[site.key].origin.loops)
        return hit, always and not (self.numbered and sliced)

    def group(self, site: Site) -> Any:
        """Return what an edit has to know of the layer."""
        return self.uses[site.key]

    def mask(self, site: Site, iteration: Any) -> Any:
        """Return the numbers of the iterations around, of those that are asked for."""
        if self.numbered and iteration:
            return jnp.stack([jnp.asarray(i) for i in iteration])
        return self.match(site)[1] if self.among is None else self.among.mask(site, iteration)


def layers(among: Selector | str | None = None) -> Selector:
    """Choose layers: each `dot_general` and convolution of a parameter that is differentiated.

    A product of two differentiated arguments is none of them: where the input is differentiated
    too, its first layer is not chosen.

    Args:
      among: a selector of `fbp.at`, or the pattern of a scope, to which the layers are limited.

    Returns:
      A selector, for `fbp.edit` and `fbp.tap`.

    >>> import fbp, jax.numpy as jnp
    >>> halved = fbp.edit.cotangent(layers(), fbp.edit.scale(0.5))
    >>> f = lambda w: jnp.sum(jnp.ones((1, 2)) @ w)
    >>> print(fbp.grad(f, rules=fbp.RULES | halved)(jnp.ones(2)))
    [0.5 0.5]
    """
    return Layers(None if among is None else selector(among))


class ProductLayer(NamedTuple):
    """A layer y = product(x, w) in the backward pass.

    Attributes:
      x, w: its input and its weight, with the weight's axes as the product takes them.
      ct: the cotangent of y.
      use: where its weight comes from.
      number: its number among the layers, in the order in which they run.
      iteration: the numbers of the loops' iterations around, if the weight is sliced by a scan.
      x_ct: the cotangent of x, stated; None for that of the product.
    """

    x: Array
    w: Array
    ct: Array
    use: ParameterUse
    number: int
    iteration: Any
    x_ct: Array | None = None

    @property
    def stack(self) -> list[Any]:
        """Return the numbers of the iterations that have slices of the weight of their own."""
        if self.iteration is None:
            return []
        loops = self.use.origin.loops
        return [i for i, loop in zip(self.iteration, loops, strict=True) if loop.sliced]

    def product(self, x: Array, w: Array) -> Array:
        """Return the product of an input and a weight."""
        return bind(self.use.site.eqn, [w, x] if self.use.operand == 0 else [x, w])[0]

    def input_cotangent(self) -> Array:
        """Return the cotangent of x."""
        if self.x_ct is not None:
            return self.x_ct
        return fbp.vjp(lambda x: self.product(x, self.w), self.x)[1](self.ct)[0]

    def weight_cotangent(self) -> Array:
        """Return the cotangent of w."""
        return fbp.vjp(lambda w: self.product(self.x, w), self.w)[1](self.ct)[0]

    def on_features(self, function: Callable[[Array], Array]) -> Array:
        """Return a function of the cotangent whose last axis counts the features of the output."""
        axes = self.feature_axes
        last = range(self.ct.ndim - len(axes), self.ct.ndim)
        moved = jnp.moveaxis(self.ct, axes, last)
        flat = moved.reshape(*moved.shape[: self.ct.ndim - len(axes)], -1)
        return jnp.moveaxis(function(flat).reshape(moved.shape), last, axes)

    @property
    def feature_axes(self) -> tuple[int, ...]:
        """Return those axes of the output that come from the weight alone."""
        eqn = self.use.site.eqn
        numbers = eqn.params["dimension_numbers"]
        if eqn.primitive is not p.dot_general_p:
            return (numbers.out_spec[1],)
        contracting, batch = (axes[self.use.operand] for axes in numbers)
        free = self.w.ndim - len(contracting) - len(batch)
        first = len(batch) if self.use.operand == 0 else self.ct.ndim - free
        return tuple(range(first, first + free))

    def replayed(self, leaf: Array) -> Array:
        """Return another leaf with the axes of w: moved and sliced as the weight is."""
        numbers = iter(self.iteration if self.iteration is not None else ())
        for step in self.use.origin.steps:
            if not isinstance(step, EnclosingScan):
                (leaf,) = bind(step, [leaf])
            elif self.iteration is not None:
                number = next(numbers)
                leaf = leaf[number] if step.sliced else leaf  # in the order of xs
        return leaf


@dataclass(frozen=True)
class LayerEdit(RegionEdit):
    """Another backward pass of layers: that of `function(layer)`."""

    name: str = ""

    def __repr__(self) -> str:
        return f"{self.name}({self.site})"

    def apply(self, call: Call, edited: SiteEdit, args: list[Any]) -> Applied:
        """Pull back as the layer does that the function returns."""
        operands, use = read_operands(call.params, args), edited.group.label
        needs_ct = read_operands(call.params, call.needs_ct).ins[call.params["layout"].num_consts :]
        iteration, number = operands.mask, edited.number
        where = [edited.group.inputs.index(v) for v in use.site.eqn.invars]
        i, j = where[1 - use.operand], where[use.operand]

        def pullback(cts: list[Any], _: Any, ins: list[Any]) -> list[Any]:
            layer = self.function(ProductLayer(ins[i], ins[j], cts[0], use, number, iteration))
            x_ct = layer.input_cotangent() if needs_ct[i] else None
            return [x_ct, layer.weight_cotangent()][:: 1 if i < j else -1]

        unmasked = call_without_mask(call)
        return RegionEdit(self.site, pullback).apply(unmasked, edited, args)


def call_without_mask(call: Call) -> Call:
    """Return the call of a site that is chosen in every iteration."""
    layout = call.params["layout"]
    always = replace(layout, tree=layout.tree._replace(mask=None))
    return replace(call, eqn=call.eqn.replace(params=call.params | {"layout": always}))


def layer_edit(
    name: str, function: Callable[[ProductLayer], ProductLayer], among: Any = None
) -> Edit:
    """Return the edit by which layers pull back as other layers do: those of `function(layer)`.

    >>> import fbp, jax.numpy as jnp
    >>> zero = layer_edit("zero", lambda layer: layer._replace(w=0 * layer.w))
    >>> f = lambda ws: jnp.sum(jnp.tanh(jnp.ones((1, 2)) @ ws[0]) @ ws[1])
    >>> ws = [jnp.zeros((2, 2)), jnp.ones((2, 1))]
    >>> print(fbp.grad(f, rules=fbp.RULES | zero)(ws)[0].max())
    0.0
    """
    chosen = Layers(None if among is None else selector(among), numbered=True)
    return LayerEdit(chosen, function, name)
