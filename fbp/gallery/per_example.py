"""Gradients of single examples, and what can be known of them without writing them down.

One backward pass of a batch reads, at each use of a parameter, what the gradient is made of: at a
layer its input and the cotangent of its output, elsewhere the operand's cotangent. All statistics
follow from these: the gradient itself, any weighted sum of the examples' gradients, their norms.
No example's gradient has to be in memory for it (Goodfellow, arXiv 1510.01799; Li et al., arXiv
2110.05679; Bu et al., arXiv 2210.00038).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

import fbp
from fbp.autodiff import graph as g
from fbp.autodiff.avals import differentiable
from fbp.autodiff.edits.groups import choose
from fbp.autodiff.edits.program import NamedProgram, paths
from fbp.autodiff.flat_function import flatten_function
from fbp.errors import InputError
from fbp.gallery.factors import Factors, factors
from fbp.gallery.uses import ParameterUse, uses


@dataclass(frozen=True)
class UseReading:
    """A use, and what was read there: with the examples first, the other operand of a product and
    its output's cotangent, or None and the cotangent of the operand."""

    use: ParameterUse
    other: Array | None
    ct: Array

    def pulled(self, leaf: Array, other: Array | None, ct: Array, axes: int | None) -> Array:
        """Return the gradient of one example (axes None), or the sum over examples (axes 0)."""
        others = None if other is None else [other]
        run = lambda leaf, others: self.use.replayed(leaf, others)
        if axes == 0 and others is not None:
            run = jax.vmap(run, in_axes=(None, 0))
        elif axes == 0:
            ct = jnp.sum(ct, axis=0)
        out, pullback = fbp.vjp(lambda leaf: run(leaf, others), leaf)
        return pullback(ct.astype(out.dtype))[0]

    def sum(self, leaf: Array, weights: Array | None = None) -> Array:
        """Return the weighted sum of the examples' gradients."""
        return self.pulled(leaf, self.other, _weighted(self.ct, weights), 0)

    def each(self, leaf: Array) -> Array:
        """Return the gradient of each example."""
        axes = (None if self.other is None else 0, 0)
        return jax.vmap(lambda x, ct: self.pulled(leaf, x, ct, None), in_axes=axes)(
            self.other, self.ct
        )

    @property
    def is_layer(self) -> bool:
        """Test whether the leaf's gradient is the product of two factors, entry by entry."""
        return self.other is not None and self.use.origin.is_isometric

    @property
    def factors(self) -> Factors:
        """Return the factors of a layer."""
        assert self.other is not None
        return factors(self.use, self.other, self.ct)

    @property
    def signature(self) -> tuple:
        """Return what uses share whose factors may be joined along their positions."""
        eqn, steps = self.use.site.eqn, self.use.origin.steps
        described = [str(getattr(x, "params", x)) for x in steps]
        return str(eqn.primitive), str(eqn.params), self.use.operand, *described, _widths(self)


def _widths(measured: UseReading) -> tuple[int, ...]:
    a, g = jax.eval_shape(lambda: measured.factors)
    return (a.shape[1], a.shape[3], g.shape[3])


def _weighted(ct: Array, weights: Array | None) -> Array:
    if weights is None:
        return ct
    return ct * weights.reshape(-1, *(1 for _ in ct.shape[1:])).astype(ct.dtype)


@dataclass(frozen=True)
class ExampleGradients:
    """The examples of a batch, and the gradient of each one's own loss, not written down.

    Attributes:
      losses: the loss of each example.
      params: the parameters.
      by_leaf: for each leaf of the parameters the uses, with what was read there.

    >>> import jax.numpy as jnp
    >>> batch = examples(lambda w, x: jnp.mean(w * x), jnp.ones(()), jnp.array([1.0, 3.0]))
    >>> print(batch.gradients(), batch.mean())
    [1. 3.] 2.0
    """

    losses: Float[Array, " n"]
    params: PyTree
    by_leaf: tuple[tuple[UseReading, ...], ...]

    def _map(self, fun: Callable[[Array, tuple[UseReading, ...]], Array]) -> PyTree:
        leaves, tree = jax.tree.flatten(self.params)
        return jax.tree.unflatten(
            tree, [fun(jnp.asarray(x), y) for x, y in zip(leaves, self.by_leaf, strict=True)]
        )

    def sum(self, weights: Float[Array, " n"] | None = None) -> PyTree:
        """Return the sum of the examples' gradients, each times its weight."""
        return self._map(lambda x, ms: _total([m.sum(x, weights) for m in ms], jnp.zeros_like(x)))

    def mean(self) -> PyTree:
        """Return the gradient of the mean loss."""
        return jax.tree.map(lambda x: x / len(self.losses), self.sum())

    def gradients(self) -> PyTree:
        """Return the gradient of each example, the examples first."""
        return self._map(self._each)

    def _each(self, leaf: Array, measured: tuple[UseReading, ...]) -> Array:
        none = jnp.zeros((len(self.losses), *leaf.shape), leaf.dtype)
        return _total([m.each(leaf) for m in measured], none)

    def squared_norms(self) -> PyTree:
        """Return, for each leaf, |gradient|^2 of each example."""
        return self._map(self._squared_norms)

    def _squared_norms(self, leaf: Array, measured: tuple[UseReading, ...]) -> Array:
        if measured and all(m.is_layer for m in measured):
            first, *others = measured
            if all(m.signature == first.signature for m in others):
                pairs = zip(*(m.factors for m in measured), strict=True)
                return Factors(*(jnp.concatenate(xs, axis=2) for xs in pairs)).squared_norms()
        squares = jnp.square(jnp.abs(self._each(leaf, measured)))
        return jnp.sum(squares, axis=tuple(range(1, squares.ndim)))

    def norms(self) -> Float[Array, " n"]:
        """Return the norm of each example's whole gradient."""
        squares = jax.tree.leaves(self.squared_norms())
        return jnp.sqrt(sum(squares[1:], squares[0]))

    def sum_of_squares(self) -> PyTree:
        """Return the sum over examples of the square of each entry of the gradient."""
        return self._map(self._sum_of_squares)

    def _sum_of_squares(self, leaf: Array, measured: tuple[UseReading, ...]) -> Array:
        if len(measured) == 1 and measured[0].is_layer and measured[0].factors.positions == 1:
            (m,) = measured
            assert m.other is not None
            return m.pulled(leaf, m.other**2, m.ct**2, 0)  # one outer product an example
        return jnp.sum(jnp.square(jnp.abs(self._each(leaf, measured))), axis=0)

    def layers(self) -> dict[str, list[Factors]]:
        """Return, by the path of each weight, the factors of the layers that read it."""
        by_name = {
            name: [m.factors for m in ms if m.is_layer]
            for name, ms in zip(paths(self.params), self.by_leaf, strict=True)
        }
        return {name: layers for name, layers in by_name.items() if layers}


def _total(terms: Sequence[Array], none: Array) -> Array:
    return sum(terms[1:], terms[0]) if terms else none


jax.tree_util.register_dataclass(ExampleGradients, ["losses", "params", "by_leaf"], [])
jax.tree_util.register_dataclass(UseReading, ["other", "ct"], ["use"])


def examples(loss: Callable[..., Any], params: PyTree, *batch: PyTree) -> ExampleGradients:
    """Return the examples of a batch with what their gradients are made of.

    Runs the loss once over all examples, forward and backward; under `jax.jit` only that is
    computed which the statistics that you ask for need.

    Args:
      loss: loss(params, *batch) is the mean, or the sum, of the losses of the examples of a batch;
        it gets batches of one example. What couples examples, such as batch normalization with the
        batch's own statistics, has no gradient of one example.
      params: a pytree of arrays.
      *batch: pytrees of arrays whose first axis counts the examples.

    Returns:
      The examples. The gradient of one is that of its own loss, not divided by their number.

    Raises:
      fbp.InputError: the arrays of the batch differ in length, or a parameter's way to where it is
        used cannot be followed.

    Source: Goodfellow, Efficient per-example gradient computations (arXiv 1510.01799), for dense
    layers; Rochette et al. (arXiv 1912.06015) for convolutions.

    >>> import jax.numpy as jnp
    >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
    >>> batch = examples(loss, jnp.ones(2), jnp.array([[3.0, 4.0], [0.0, 0.0]]))
    >>> print(batch.norms())
    [70.  0.]
    """
    sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(batch)}
    if len(sizes) != 1 or sizes == {()}:
        raise InputError(f"the first axes of a batch count its examples; they are {sorted(sizes)}.")
    one = lambda *example: loss_of_one(loss, example)
    losses, by_leaf = jax.vmap(lambda *example: read_uses(one(*example), params))(*batch)
    return ExampleGradients(losses, params, by_leaf)


def loss_of_one(loss: Callable[..., Any], example: tuple) -> Callable[[PyTree], Any]:
    """Return the loss of a batch of one example, as a function of the parameters."""
    return lambda params: loss(params, *jax.tree.map(lambda x: jnp.asarray(x)[None], example))


ByLeaf = tuple[tuple[UseReading, ...], ...]


def read_uses(loss: Callable[[PyTree], Any], params: PyTree) -> tuple[Array, ByLeaf]:
    """Return the loss of one example and, by leaf, what its gradient is made of: under vmap, those
    of a batch."""
    staged = flatten_function(loss, (params,), False, fbp.RULES)
    all_uses = uses(staged.graph, staged.in_tree.num_leaves)
    taps = _taps(all_uses)
    value, _, tapped = fbp.value_and_grad(loss, taps=taps)(params)
    program = NamedProgram(staged.graph, tuple("" for _ in staged.graph.invars), fbp.RULES)
    read: dict[ParameterUse, UseReading] = {}
    for name, tap in taps.items():
        groups = choose(tap.site, program)
        values = [tapped[name]] if len(groups) == 1 else list(tapped[name].values())
        for group, value_read in zip(groups, values, strict=True):
            for use in (u for u in all_uses if u.site.key == group.sites[0].key):
                if use.is_product == (tap.of == "region"):
                    read[use] = _as_measured(use, group, value_read)
    leaves = range(staged.in_tree.num_leaves)
    by_leaf = [[read[u] for u in all_uses if u.origin.leaf == i] for i in leaves]
    return value, tuple(map(tuple, by_leaf))


def _taps(all_uses: Sequence[ParameterUse]) -> dict[str, Any]:
    """Return the taps at all uses: one for the products, one for each other use that holds
    programs, one for the rest."""
    taps = {}
    products = {u.site.key for u in all_uses if u.is_product}
    plain = {u.site.key for u in all_uses if not u.is_product and not g.holds_program(u.site.eqn)}
    if products:
        taps["products"] = fbp.tap(_at(products), _operands, of="region")
    if plain:
        taps["others"] = fbp.tap(_at(plain), of="inputs")
    for use in all_uses:
        if g.holds_program(use.site.eqn):
            taps[f"program {use.site.key}"] = fbp.tap(_at({use.site.key}), of="inputs")
    return taps


def _at(keys: set) -> Any:
    return fbp.at.where(lambda site: site.key in keys)


def _operands(cts: list[Any], _: list[Any], ins: list[Any]) -> Any:
    return cts[0], list(ins)


def _as_measured(use: ParameterUse, group: Any, read: Any) -> UseReading:
    """Return what a tap read at a use."""
    if use.is_product:
        ct, ins = read
        (other,) = [v for i, v in enumerate(use.site.eqn.invars) if i != use.operand]
        return UseReading(use, ins[group.inputs.index(other)], ct)
    floats = [v for v in group.inputs if differentiable(v.aval)]
    read = [read] if len(floats) == 1 else read
    return UseReading(use, None, read[floats.index(use.site.eqn.invars[use.operand])])
