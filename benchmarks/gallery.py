"""The methods of `fbp.gallery` on six frameworks' networks, beside formulas derived by hand.

    python -m benchmarks.gallery [--only feedback_alignment saliency]

For each method the largest error, relative to the largest entry of the formula, on one network
(5-4-4-3 with ReLU) as it is written in each framework, in float64; and the lines of the method's
code, without its docstring.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import gallery_formulas as formulas
from benchmarks.gallery_networks import NETWORKS, Network, plain
from fbp import gallery

SEED = 1
EXAMPLES = 6
LINES = 10


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(SEED)
    return rng.normal(size=(EXAMPLES, 5)), np.eye(3)[rng.integers(0, 3, EXAMPLES)]


def cross_entropy(outputs: Any, y: Any) -> Any:
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(outputs), axis=-1))


def loss_of(network: Network) -> Callable[..., Any]:
    return lambda params, x, y: cross_entropy(network.apply(params, x), y)


@dataclass(frozen=True)
class Method:
    """A method: how it runs on a network, its formula, and its code."""

    run: Callable[[Network, Any, Any], Any]
    formula: Callable[[formulas.Layers, Any, Any], Any]
    code: Callable[..., Any]


def of_params(method: Callable[..., Any], *options: Any) -> Callable[[Network, Any, Any], Any]:
    """Run a method that takes a loss, and returns a function of params and batch."""
    return lambda network, x, y: network.read(
        method(loss_of(network), *options)(network.params, x, y)
    )


def kfac(network: Network, x: Any, y: Any) -> Any:
    factors = gallery.kfac_factors(network.apply, cross_entropy)(network.params, x, y)
    pairs = [layer for layers in factors.values() for layer in layers]
    by_size = sorted(pairs, key=lambda f: (-f.inputs.shape[-1], -f.cotangents.shape[-1]))
    return [(f.inputs[0], f.cotangents[0]) for f in by_size]


METHODS = {
    "per_example_gradients": Method(
        of_params(gallery.per_example_gradients),
        formulas.per_example,
        gallery.per_example_gradients,
    ),
    "per_example_norms": Method(
        lambda net, x, y: gallery.per_example_norms(loss_of(net))(net.params, x, y),
        lambda layers, x, y: np.sqrt(formulas.squared_norms(layers, x, y)),
        gallery.per_example_norms,
    ),
    "clipped_gradient": Method(
        of_params(gallery.clipped_gradient, 1.0),
        lambda layers, x, y: formulas.clipped(layers, x, y, 1.0),
        gallery.clipped_gradient,
    ),
    "batch_variance": Method(
        of_params(gallery.batch_variance), formulas.batch_variance, gallery.batch_variance
    ),
    "gradient_noise_scale": Method(
        lambda net, x, y: jnp.stack(gallery.gradient_noise_scale(loss_of(net))(net.params, x, y)),
        formulas.noise_scale,
        gallery.gradient_noise_scale,
    ),
    "diagonal_ggn": Method(
        lambda net, x, y: net.read(
            gallery.diagonal_ggn(net.apply, cross_entropy)(net.params, x, y)
        ),
        formulas.diagonal_ggn,
        gallery.diagonal_ggn,
    ),
    "kfac_factors": Method(kfac, formulas.kfac, gallery.kfac_factors),
}


def error(method: Method, network: Network) -> float:
    """Return the largest error of a method on a network, as a part of its largest entry."""
    x, y = data()
    got = jax.tree.leaves(jax.jit(lambda x, y: method.run(network, x, y))(x, y))
    want = jax.tree.leaves(method.formula(formulas.as_numpy(plain().params), x, y))
    errors = [np.abs(g - w).max() / np.abs(w).max() for g, w in zip(got, want, strict=True)]
    return float(max(errors))


def lines(code: Callable[..., Any]) -> int:
    """Count the lines of a function's body, without its docstring and blank lines."""
    source = textwrap.dedent(inspect.getsource(code))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) else function.body
    first, last = body[0].lineno, function.end_lineno
    return sum(bool(line.strip()) for line in source.splitlines()[first - 1 : last])


def rows(names: list[str]) -> Iterator[str]:
    networks = {name: make() for name, make in NETWORKS.items()}
    yield f"| method | lines | {' | '.join(networks)} |"
    yield "|---|---|" + "---|" * len(networks)
    for name in names:
        errors = [f"{error(METHODS[name], network):.1e}" for network in networks.values()]
        yield f"| {name} | {lines(METHODS[name].code)} | {' | '.join(errors)} |"


def main(only: tuple[str, ...] = ()) -> None:
    with jax.enable_x64(True):
        for row in rows([name for name in METHODS if not only or name in only]):
            print(row, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
