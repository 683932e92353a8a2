"""Curvature: the diagonal of the GGN, Kronecker factors, and Hutchinson's diagonal of the Hessian.

A network and its loss are apart here: network(params, *inputs) returns outputs whose first axis
counts the examples, and loss(outputs, *targets) the mean, or the sum, of the examples' losses. Both
get batches of one example. All results are means over the examples, of each one's own loss.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

import fbp
from fbp.errors import InputError
from fbp.gallery.per_example import ExampleGradients, examples, read_uses

Network = Callable[..., Array]


def square_root_of_hessian(loss: Callable[..., Any], outputs: Array, *targets: Any) -> Array:
    """Return columns s_c [c, *outputs.shape]: the sum over c of s_c s_c' is the loss's Hessian."""
    shape, flat = outputs.shape, outputs.reshape(-1)
    hessian = fbp.hessian(lambda z: loss(z.reshape(shape), *targets))(flat)
    values, vectors = jnp.linalg.eigh((hessian + hessian.T) / 2)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0))[None]).T.reshape(-1, *shape)


def ggn_examples(
    network: Network, loss: Callable[..., Any], params: PyTree, inputs: tuple, targets: tuple
) -> ExampleGradients:
    """Return examples whose gradients are the columns J_n' s_nc of the GGN's square root, with n
    the slower of the two indices."""

    def of_one(inputs: tuple, targets: tuple) -> Any:
        one = lambda tree: jax.tree.map(lambda x: jnp.asarray(x)[None], tree)
        outputs = network(params, *one(inputs))
        columns = square_root_of_hessian(loss, outputs, *one(targets))
        along = lambda column: lambda params: jnp.sum(network(params, *one(inputs)) * column)
        return jax.vmap(lambda column: read_uses(along(column), params))(columns)

    values, by_leaf = jax.vmap(of_one)(inputs, targets)
    merged = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (values, by_leaf))
    return ExampleGradients(merged[0], params, merged[1])


def diagonal_ggn(network: Network, loss: Callable[..., Any]) -> Callable[..., PyTree]:
    """Return the diagonal of the generalized Gauss-Newton matrix: mean over n of diag(J' H J).

    J is the Jacobian of the outputs of an example, H the Hessian of its loss in these outputs.

    Args:
      network: network(params, *inputs).
      loss: loss(outputs, *targets).

    Returns:
      A function of (params, inputs, targets), each of the two an array or a tuple of arrays, that
      returns a tree like params.

    Source: Schraudolph, Neural Computation 14 (2002); BackPACK's `DiagGGNExact` (arXiv 1912.10985)
    of a mean loss.

    >>> import jax.numpy as jnp
    >>> network, loss = (lambda w, x: x * w), (lambda z, y: jnp.mean((z - y) ** 2))
    >>> x, y = jnp.array([1.0, 2.0]), jnp.zeros(2)
    >>> print(jnp.round(diagonal_ggn(network, loss)(jnp.ones(()), x, y), 3))
    5.0
    """

    def diagonal(params: PyTree, inputs: Any, targets: Any) -> PyTree:
        inputs, targets = _tuple(inputs), _tuple(targets)
        columns = ggn_examples(network, loss, params, inputs, targets)
        n = len(jax.tree.leaves(inputs)[0])
        return jax.tree.map(lambda x: x / n, columns.sum_of_squares())

    return diagonal


class KroneckerFactors(NamedTuple):
    """Factors whose Kronecker product approximates a layer's block of the curvature: of its inputs
    [b, d, d] and of its outputs' cotangents [b, p, p]; b is 1 but for grouped layers and stacks of
    layers in a scan, which have a block each.

    Attributes:
      inputs: A, of a layer's inputs.
      cotangents: G, of its outputs' cotangents.

    >>> import jax.numpy as jnp
    >>> factors = KroneckerFactors(jnp.ones((1, 2, 2)), jnp.ones((1, 3, 3)))
    >>> factors.inputs.shape, factors.cotangents.shape
    ((1, 2, 2), (1, 3, 3))
    """

    inputs: Float[Array, "b d d"]
    cotangents: Float[Array, "b p p"]


def kfac_factors(
    network: Network,
    loss: Callable[..., Any],
    approximation: Literal["expand", "reduce"] = "expand",
    fisher: Literal["exact", "empirical"] = "exact",
) -> Callable[..., dict[str, list[KroneckerFactors]]]:
    """Return the factors A and G of K-FAC of each layer, found by its product.

    With inputs a_nt [d] and cotangents g_nt [p] at position t of T (a sequence, or the windows of a
    convolution),

        expand    A = mean over n of sum over t of a a'       G = mean over n of mean over t of g g'
        reduce    A = mean over n of abar abar'               G = mean over n of ghat ghat'

    with abar the mean of a over t, ghat the sum of g. A dense layer without positions has T = 1,
    where both are the same. `exact` takes for g the pullbacks of the columns of the square root of
    the loss's Hessian, and sums over them: the Fisher matrix, and GGN, of the usual likelihoods;
    `empirical` takes the gradient itself.

    Args:
      network: network(params, *inputs).
      loss: loss(outputs, *targets).
      approximation: "expand" (of a convolution: Grosse and Martens) or "reduce".
      fisher: "exact" or "empirical".

    Returns:
      A function of (params, inputs, targets) that returns, by the path of a weight, the factors of
      each layer that reads it. d goes over the axes of the weight that the product sums over, in
      their order; of a convolution over features in, then the window. The bias is not part of them.

    Raises:
      fbp.InputError: an approximation or a fisher that is none of these.

    Source: Martens and Grosse, arXiv 1503.05671; for convolutions Grosse and Martens, arXiv
    1602.01407, whose A is not divided by T, and G is; Eschenhagen et al., arXiv 2311.00636.
    BackPACK's `KFLR` of a convolution has the A of `expand` and the G of `reduce`.

    >>> import jax.numpy as jnp
    >>> network, loss = (lambda w, x: x @ w), (lambda z, y: jnp.mean(jnp.sum((z - y) ** 2, -1)))
    >>> data = jnp.array([[1.0], [3.0]]), jnp.zeros((2, 1))
    >>> (factors,) = kfac_factors(network, loss)(jnp.ones((1, 1)), *data)[""]
    >>> print(*[jnp.round(f.squeeze(), 3) for f in factors])
    5.0 2.0
    """
    collect = _choice({"exact": ggn_examples, "empirical": _gradients}, fisher)
    kronecker = _choice({"expand": _expand, "reduce": _reduce}, approximation)

    def kfac(params: PyTree, inputs: Any, targets: Any) -> dict[str, list[KroneckerFactors]]:
        columns = collect(network, loss, params, _tuple(inputs), _tuple(targets))
        n = len(jax.tree.leaves(inputs)[0])
        layers = columns.layers().items()
        return {name: [kronecker(a[:: len(a) // n], g, n) for a, g in fs] for name, fs in layers}

    return kfac


def _choice(choices: dict[str, Any], name: str) -> Any:
    if name not in choices:
        raise InputError(f"{name!r} is none of {', '.join(choices)}.")
    return choices[name]


def _gradients(
    network: Network, loss: Callable[..., Any], params: PyTree, inputs: tuple, targets: tuple
) -> ExampleGradients:
    composed = lambda params, inputs, targets: loss(network(params, *inputs), *targets)
    return examples(composed, params, inputs, targets)


def _expand(a: Array, g: Array, n: int) -> KroneckerFactors:
    """Return the factors from a [n, b, t, d], and g [n c, b, t, p] with c columns an example."""
    gram = lambda x: jnp.einsum("nbti,nbtj->bij", x, x) / n
    return KroneckerFactors(gram(a), gram(g) / a.shape[2])


def _reduce(a: Array, g: Array, n: int) -> KroneckerFactors:
    return _expand(jnp.mean(a, axis=2, keepdims=True), jnp.sum(g, axis=2, keepdims=True), n)


def hutchinson_diagonal(fun: Callable[..., Any], draws: int = 1) -> Callable[..., PyTree]:
    """Return an unbiased estimate of the diagonal of the Hessian: mean of v * (H v), v = +-1.

    Args:
      fun: a function of params (and more arguments) that returns a number.
      draws: the number of vectors v.

    Returns:
      A function of (key, params, *args) that returns a tree like params.

    Source: Bekas, Kokiopoulou and Saad, Applied Numerical Mathematics 57 (2007); AdaHessian, arXiv
    2006.00719.

    >>> import jax, jax.numpy as jnp
    >>> estimate = hutchinson_diagonal(lambda x: jnp.sum(x**3))
    >>> print(estimate(jax.random.key(0), jnp.array([1.0, 2.0])))
    [ 6. 12.]
    """

    def diagonal(key: Array, params: PyTree, *args: Any) -> PyTree:
        leaves, tree = jax.tree.flatten(params)

        def one(key: Array) -> PyTree:
            signs = [
                jax.random.rademacher(k, x.shape, x.dtype)
                for k, x in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
            ]
            v = jax.tree.unflatten(tree, signs)
            product = fbp.hvp(lambda params: fun(params, *args), (params,), (v,))[0]
            return jax.tree.map(jnp.multiply, v, product)

        sampled = jax.vmap(one)(jax.random.split(key, draws))
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), sampled)

    return diagonal


def _tuple(x: Any) -> tuple:
    return x if isinstance(x, tuple) else (x,)
