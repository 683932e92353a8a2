"""What it costs to look into a backward pass, beside the naive way.

    python -m benchmarks.opened

Each case is a gradient with something measured in it, by taps and by hand. Figures are those of the
compiled programs: floating-point operations, bytes accessed and temporary memory, as multiples of
the gradient alone. XLA counts the body of a loop once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

import fbp
from fbp import at, tap

WIDTH, BATCH, DEPTH = 512, 256, 4
GOAL = 1.05  # of the operations of a gradient: what a norm may cost


class Cost(NamedTuple):
    """What a compiled program takes."""

    flops: float
    accessed: float
    memory: int


@dataclass(frozen=True)
class Case:
    """One thing to measure in a backward pass.

    Attributes:
      name: what it is.
      gradient: the gradient alone, a function of (params, x).
      opened: the gradient with the measure by fbp.
      naive: the same by hand, as it is done without fbp.
      goal: the multiple of the gradient's operations that fbp's may take.
    """

    name: str
    gradient: Callable[..., Any]
    opened: Callable[..., Any]
    naive: Callable[..., Any]
    goal: float = GOAL


def mlp(params: list[jax.Array], x: jax.Array, zeros: Any = None) -> jax.Array:
    """Run a network of dense layers; zeros, if given, are added to what the layers compute."""
    for i, w in enumerate(params):
        with jax.named_scope(f"layer_{i}"):
            x = jnp.tanh(x @ w)
        x = x if zeros is None else x + zeros[i]
    return jnp.mean(x**2)


def stack(params: list[jax.Array], x: jax.Array, zeros: Any = None) -> jax.Array:
    """Run the same network as a scan over its layers."""

    def step(h: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        w, zero = layer
        with jax.named_scope("layer"):
            h = jnp.tanh(h @ w)
        return (h if zero is None else h + zero), None

    return jnp.mean(lax.scan(step, x, (jnp.stack(params), zeros))[0] ** 2)


def examples(params: list[jax.Array], x: jax.Array) -> jax.Array:
    """Return the losses of all examples."""
    return jax.vmap(lambda x: mlp(params, x))(x)


def by_zeros(loss: Callable[..., Any], statistic: Callable[..., Any]) -> Callable[..., Any]:
    """Read the cotangents of the layers by zeros added by hand: the function is edited."""

    def measured(params: list[jax.Array], x: jax.Array) -> Any:
        zeros = jnp.zeros((len(params), *x.shape))
        grads, cts = jax.grad(loss, (0, 2))(params, x, zeros)
        return grads, jax.vmap(statistic)(cts)

    return measured


def norm(ct: jax.Array) -> jax.Array:
    """Return the Euclidean norm."""
    return jnp.sqrt(jnp.sum(ct * ct))


def tapped(loss: Callable[..., Any], site: Any, statistic: Any, of: Any = "outputs") -> Any:
    """Return the gradient, and what a tap reads."""
    read = fbp.value_and_grad(loss, taps={"tap": tap(site, statistic, of=of)})
    return lambda params, x: read(params, x)[1:]


def squared_norms(cts: list[Any], _: Any, ins: list[Any]) -> jax.Array:
    """Return the squared norms of the gradients of a dense layer's kernel by each example, outer
    products of input and cotangent (Goodfellow, 2015)."""
    return jnp.sum(ins[0] ** 2, axis=-1) * jnp.sum(cts[0] ** 2, axis=-1)


def naive_norms(params: list[jax.Array], x: jax.Array) -> Any:
    """Return the same from the gradient of each example."""
    each = jax.vmap(jax.grad(mlp), (None, 0))(params, x)
    return [jnp.mean(g, 0) for g in each], [jnp.sum(g**2, axis=(1, 2)) for g in each]


CASES = [
    Case(
        "norm of a cotangent, every layer",
        fbp.grad(mlp),
        tapped(mlp, at.scope("layer_*"), norm),
        by_zeros(mlp, norm),
    ),
    Case(
        "norm of a cotangent, layers in a scan",
        fbp.grad(stack),
        tapped(stack, "layer", norm),
        by_zeros(stack, norm),
    ),
    Case(
        "mean and share of zeros, layers in a scan",
        fbp.grad(stack),
        tapped(stack, "layer", lambda ct: (jnp.mean(ct), jnp.mean((ct == 0).astype(ct.dtype)))),
        by_zeros(stack, lambda ct: (jnp.mean(ct), jnp.mean((ct == 0).astype(ct.dtype)))),
    ),
    Case(
        "norms of each example's gradient",
        fbp.grad(lambda params, x: jnp.mean(examples(params, x))),
        tapped(
            lambda params, x: jnp.mean(examples(params, x)),
            at.primitive("dot_general"),
            squared_norms,
            "region",
        ),
        naive_norms,
    ),
]


def arguments() -> tuple[list[jax.Array], jax.Array]:
    """Return the parameters and a batch."""
    key = jax.random.key(0)
    params = [
        jax.random.normal(jax.random.fold_in(key, i), (WIDTH, WIDTH)) / WIDTH**0.5
        for i in range(DEPTH)
    ]
    return params, jax.random.normal(key, (BATCH, WIDTH))


def cost(fun: Callable[..., Any], *args: Any) -> Cost:
    """Compile a function, and return what its program takes."""
    compiled = jax.jit(fun).lower(*args).compile()
    counted: Any = compiled.cost_analysis()
    memory: Any = compiled.memory_analysis()
    return Cost(counted["flops"], counted["bytes accessed"], memory.temp_size_in_bytes)


def row(case: Case, args: tuple) -> str:
    """Return a line of the table."""
    base, *others = (cost(f, *args) for f in (case.gradient, case.opened, case.naive))
    cells = []
    for i, other in enumerate(others):
        flops, accessed, memory = (a / max(b, 1) for a, b in zip(other, base, strict=True))
        missed = " (!)" if i == 0 and flops > case.goal else ""
        cells += [f"{flops:.3f}{missed}", f"{accessed:.2f}", f"{memory:.2f}"]
    return f"| {' | '.join([case.name, *cells])} |"


def main() -> None:
    """Print the table."""
    print(f"{DEPTH} dense layers of {WIDTH}, {BATCH} examples; multiples of the gradient alone")
    print("| | fbp: flops | bytes | memory | by hand: flops | bytes | memory |")
    print("|---|---|---|---|---|---|---|")
    args = arguments()
    for case in CASES:
        print(row(case, args), flush=True)


if __name__ == "__main__":
    main()
