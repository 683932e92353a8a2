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

import fbp
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


def edited(make: Callable[[Network], Any]) -> Callable[[Network, Any, Any], Any]:
    """Run the gradient of the mean loss by a table with an edit."""
    return lambda network, x, y: network.read(
        fbp.grad(loss_of(network), rules=fbp.RULES | make(network))(network.params, x, y)
    )


def other_weights(params: Any) -> Any:
    """Return weights of another size and sign, entry by entry, whatever the tree."""
    return jax.tree.map(lambda w: jnp.cos(3 * w) - 0.2, params)


def other_weight(layers: formulas.Layers) -> Callable[[int], Any]:
    return lambda i: other_weights(layers[i][0])


def of_outputs(
    loss: Callable[[Any, Any], Any], make: Callable[[], Any]
) -> Callable[[Network, Any, Any], Any]:
    """Run the gradient of another loss by a table with an edit."""
    return lambda network, x, y: network.read(
        fbp.grad(lambda params: loss(network.apply(params, x), y), rules=fbp.RULES | make())(
            network.params
        )
    )


def spiking(surrogate: Callable[..., Any], slope: Callable[[Any], Any]) -> Method:
    """Return the surrogate gradient of outputs beyond 1/2."""
    return Method(
        of_outputs(
            lambda z, y: jnp.sum(y * (z > 0.5).astype(z.dtype)),
            lambda: gallery.spikes(surrogate()),
        ),
        lambda layers, x, y: formulas.of_outputs(layers, x, lambda z: y * slope(z - 0.5)),
        surrogate,
    )


def of_input(method: Callable[..., Any], *options: Any) -> Callable[[Network, Any, Any], Any]:
    """Run a method that takes a function of the input."""
    return lambda network, x, _: method(lambda x: network.apply(network.params, x), *options)(x)


def relevance(name: str, rule: Callable[..., Any], first: Any = None) -> Method:
    """Return LRP with one rule, and another one in the first layer."""
    rules = [(0, rule()), (None, gallery.epsilon())] if first else rule()
    shares = formulas.SHARES["epsilon" if first else name]
    return Method(
        of_input(gallery.lrp, rules),
        lambda layers, x, _: formulas.relevance(layers, x, shares, first or shares),
        getattr(gallery, name),
    )


def patching(network: Network, x: Any, _: Any) -> Any:
    """Patch what enters the ReLUs."""
    fun = lambda x: jnp.sum(network.apply(network.params, x) ** 2)
    site = gallery.relus()
    return list(gallery.attribution_patching(fun, site)(x, 2 * x).values())


def patched_relus(layers: formulas.Layers, x: Any, _: Any) -> list[Any]:
    """Return the same from the values after the ReLUs."""
    base, source = (formulas.forward(layers, c * x, np.zeros((len(x), 3))) for c in (1, 2))
    ct, result = 2 * base.z[-1], []
    for i in (2, 1):
        ct = ct @ layers[i][0].T
        result.append((source.a[i] - base.a[i]) * ct)
        ct = ct * (base.z[i - 1] > 0)
    return result[::-1]


DIRECT = [np.random.default_rng(i).normal(size=(3, 4)) for i in range(2)]

METHODS = {
    "feedback_alignment": Method(
        edited(lambda net: gallery.feedback_alignment(other_weights(net.params))),
        lambda layers, x, y: formulas.backward(layers, x, y, back=other_weight(layers)),
        gallery.feedback_alignment,
    ),
    "uniform_sign_feedback": Method(
        edited(lambda _: gallery.uniform_sign_feedback()),
        lambda layers, x, y: formulas.backward(
            layers, x, y, back=lambda i: formulas.signs(layers)[i]
        ),
        gallery.uniform_sign_feedback,
    ),
    "fixed_random_sign_feedback": Method(
        edited(lambda net: gallery.fixed_random_sign_feedback(other_weights(net.params))),
        lambda layers, x, y: formulas.backward(
            layers,
            x,
            y,
            back=lambda i: np.sign(layers[i][0]) * np.abs(other_weight(layers)(i)),
        ),
        gallery.fixed_random_sign_feedback,
    ),
    "direct_feedback_alignment": Method(
        lambda net, x, y: net.read(
            gallery.direct_feedback_alignment(net.apply, cross_entropy, DIRECT)(net.params, x, y)
        ),
        lambda layers, x, y: formulas.direct(layers, x, y, DIRECT),
        gallery.direct_feedback_alignment,
    ),
    "meprop": Method(
        edited(lambda _: gallery.meprop(2)),
        lambda layers, x, y: formulas.meprop(layers, x, y, 2),
        gallery.meprop,
    ),
    "clip_by_layer": Method(
        edited(lambda _: gallery.clip_by_layer(0.1)),
        lambda layers, x, y: formulas.clipped_by_layer(layers, x, y, 0.1),
        gallery.clip_by_layer,
    ),
    "gradient_reversal": Method(
        edited(lambda _: gallery.gradient_reversal(gallery.layers(), 1.0)),
        lambda layers, x, y: [
            ((-1) ** (3 - i) * w, (-1) ** (2 - i) * b)
            for i, (w, b) in enumerate(formulas.backward(layers, x, y))
        ],
        gallery.gradient_reversal,
    ),
    "straight_through": Method(
        of_outputs(lambda z, y: cross_entropy(jnp.round(z), y), gallery.straight_through),
        lambda layers, x, y: formulas.of_outputs(
            layers, x, lambda z: (formulas.softmax(np.round(z)) - y) / len(x)
        ),
        gallery.straight_through,
    ),
    "fast_sigmoid": spiking(gallery.fast_sigmoid, lambda u: 1 / (1 + 25 * np.abs(u)) ** 2),
    "arctan": spiking(gallery.arctan, lambda u: 1 / (1 + (np.pi * u) ** 2)),
    "boxcar": spiking(gallery.boxcar, lambda u: 1.0 * (np.abs(u) < 0.5)),
    "saliency": Method(
        of_input(gallery.saliency),
        lambda layers, x, _: np.abs(formulas.map_of_input(layers, x, lambda ct, z: ct * (z > 0))),
        gallery.saliency,
    ),
    "guided_backprop": Method(
        of_input(gallery.guided_backprop),
        lambda layers, x, _: formulas.map_of_input(
            layers, x, lambda ct, z: np.maximum(ct, 0) * (z > 0)
        ),
        gallery.guided_backprop,
    ),
    "deconvolution": Method(
        of_input(gallery.deconvolution),
        lambda layers, x, _: formulas.map_of_input(layers, x, lambda ct, _: np.maximum(ct, 0)),
        gallery.deconvolution,
    ),
    "lrp, epsilon": relevance("epsilon", gallery.epsilon),
    "lrp, gamma": relevance("gamma", gallery.gamma),
    "lrp, z_plus": relevance("z_plus", gallery.z_plus),
    "lrp, alpha_beta": Method(
        of_input(gallery.lrp, gallery.alpha_beta()),
        lambda layers, x, _: formulas.alpha_beta(layers, x),
        gallery.alpha_beta,
    ),
    "lrp, w_squared": relevance("w_squared", gallery.w_squared),
    "lrp, flat": relevance("flat", gallery.flat),
    "lrp, z_box": relevance("z_box", lambda: gallery.z_box(-3.0, 4.0), first=formulas.by_box),
    "attribution_patching": Method(patching, patched_relus, gallery.attribution_patching),
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
