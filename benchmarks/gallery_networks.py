"""One network, 5-4-4-3 with ReLU, in six frameworks: written as their users write it."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbp import nn

WIDTHS = (5, 4, 4, 3)
Layers = list[tuple[Any, Any]]


class Network(NamedTuple):
    """A network, its parameters, and how a tree like these is read: as pairs (W [in, out], b)."""

    apply: Callable[[Any, Any], Any]
    params: Any
    read: Callable[[Any], Layers]


def drawn(seed: int = 0) -> Layers:
    rng = np.random.default_rng(seed)
    return [
        (jnp.asarray(rng.normal(size=(d, p))), jnp.asarray(0.3 * rng.normal(size=p)))
        for d, p in pairwise(WIDTHS)
    ]


def plain() -> Network:
    def apply(layers: Layers, x: Any) -> Any:
        for w, b in layers[:-1]:
            x = jnp.maximum(x @ w + b[None], 0)
        w, b = layers[-1]
        return x @ w + b[None]

    return Network(apply, drawn(), list)


def fbp_nn() -> Network:
    names = ["0_dense", "2_dense", "4_dense"]
    network = nn.serial(nn.dense(4), nn.relu(), nn.dense(4), nn.relu(), nn.dense(3))
    pairs = zip(names, drawn(), strict=True)
    params = {name: {"kernel": w, "bias": b} for name, (w, b) in pairs}
    empty = network.init(jax.random.key(0), (-1, WIDTHS[0]))[0]
    params = {key: params.get(key, value) for key, value in empty.items()}
    return Network(
        network.apply, params, lambda tree: [(tree[k]["kernel"], tree[k]["bias"]) for k in names]
    )


def linen() -> Network:
    from flax import linen  # pyright: ignore[reportMissingImports]

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            for width in WIDTHS[1:-1]:
                x = linen.relu(linen.Dense(width, param_dtype=x.dtype)(x))
            return linen.Dense(WIDTHS[-1], param_dtype=x.dtype)(x)

    params = {
        "params": {f"Dense_{i}": {"kernel": w, "bias": b} for i, (w, b) in enumerate(drawn())}
    }
    layers = lambda tree: [(x["kernel"], x["bias"]) for x in tree["params"].values()]
    return Network(Model().apply, params, layers)  # pyright: ignore[reportArgumentType]


def nnx() -> Network:
    from flax import nnx  # pyright: ignore[reportMissingImports]

    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            make = lambda i: nnx.Linear(*WIDTHS[i : i + 2], param_dtype=float, rngs=rngs)
            self.layer0, self.layer1, self.layer2 = make(0), make(1), make(2)

        def __call__(self, x: Any) -> Any:
            return self.layer2(nnx.relu(self.layer1(nnx.relu(self.layer0(x)))))

    graph, state = nnx.split(Model(nnx.Rngs(0)))
    kernels = {
        (f"layer{i}", kind): x
        for i, pair in enumerate(drawn())
        for kind, x in zip(("kernel", "bias"), pair, strict=True)
    }
    flat = dict(nnx.to_flat_state(state))
    state = nnx.from_flat_state(
        [(path, flat[path].replace(kernels[str(path[0]), str(path[1])])) for path in flat]
    )

    def read(tree: Any) -> Layers:
        flat = {path: x[...] for path, x in nnx.to_flat_state(tree)}
        return [(flat[f"layer{i}", "kernel"], flat[f"layer{i}", "bias"]) for i in range(3)]

    return Network(lambda state, x: nnx.merge(graph, state)(x), state, read)


def equinox() -> Network:
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    mlp = eqx.nn.MLP(WIDTHS[0], WIDTHS[-1], WIDTHS[1], 2, key=jax.random.key(0))
    flat = [x for w, b in drawn() for x in (w.T, b)]
    at = lambda m: [x for layer in m.layers for x in (layer.weight, layer.bias)]
    params, static = eqx.partition(eqx.tree_at(at, mlp, flat), eqx.is_array)
    read = lambda tree: [(jnp.swapaxes(layer.weight, -1, -2), layer.bias) for layer in tree.layers]
    apply = lambda params, x: jax.vmap(eqx.combine(params, static))(x)
    return Network(apply, params, read)


def haiku() -> Network:
    import haiku as hk  # pyright: ignore[reportMissingImports]

    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP(WIDTHS[1:])(x)))
    params = {f"mlp/~/linear_{i}": {"w": w, "b": b} for i, (w, b) in enumerate(drawn())}
    return Network(model.apply, params, lambda tree: [(x["w"], x["b"]) for x in tree.values()])


NETWORKS = {
    "fbp.nn": fbp_nn,
    "Linen": linen,
    "nnx": nnx,
    "Equinox": equinox,
    "Haiku": haiku,
    "plain": plain,
}
