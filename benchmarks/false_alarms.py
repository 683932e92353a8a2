"""Right gradients that a checker calls wrong: functions, sizes, precisions and seeds.

    python -m benchmarks.false_alarms               1,000 checks
    python -m benchmarks.false_alarms --seeds 1     200

`fbp.verify.check` beside `jax.test_util.check_grads` and `chex.assert_numerical_grads` at their
own tolerances; all of the functions' gradients are right.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax
from jax.test_util import check_grads

from fbp.verify import check

Function = Callable[[jax.Array], jax.Array]


def squared_error(x: jax.Array) -> jax.Array:
    """Beside a target of the same size."""
    return jnp.mean((jnp.tanh(x) - jnp.sin(3 * x)) ** 2)


def cross_entropy(x: jax.Array) -> jax.Array:
    """One class after another is right."""
    return -jax.nn.log_softmax(x)[x.size // 2]


def layer_norm(x: jax.Array) -> jax.Array:
    """Of one row."""
    centred = x - x.mean()
    return jnp.sum(jnp.sin(centred * lax.rsqrt(x.var() + 1e-5)))


def recurrence(x: jax.Array) -> jax.Array:
    """A scan over the entries, eight at least."""
    rows = jnp.resize(x, (8, max(1, x.size // 8)))
    carry, _ = lax.scan(lambda c, row: (jnp.tanh(c + row), None), jnp.zeros_like(rows[0]), rows)
    return jnp.sum(carry**2)


def matrix_product(x: jax.Array) -> jax.Array:
    """Of a thin matrix and its transpose."""
    m = jnp.resize(x, (8, max(1, x.size // 8)))
    return jnp.sum(jnp.tanh(m @ m.T / m.shape[1]))


FUNCTIONS: dict[str, Function] = {
    "sum x^2": lambda x: jnp.sum(x**2),
    "sum exp": lambda x: jnp.sum(jnp.exp(x)),
    "sum relu": lambda x: jnp.sum(jax.nn.relu(x)),
    "norm": jnp.linalg.norm,
    "1000 + sum sin": lambda x: 1000 + jnp.sum(jnp.sin(x)),
    "squared error": squared_error,
    "cross entropy": cross_entropy,
    "variance": jnp.var,
    "logsumexp": jax.nn.logsumexp,
    "layer norm": layer_norm,
    "largest": jnp.max,
    "sorted": lambda x: jnp.sum(jnp.sort(x) * jnp.linspace(0, 1, x.size, dtype=x.dtype)),
    "cumulative sum": lambda x: jnp.sum(jnp.sin(jnp.cumsum(x) / x.size)),
    "gelu": lambda x: jnp.sum(jax.nn.gelu(x)),
    "softplus": lambda x: jnp.mean(jax.nn.softplus(x)),
    "sigmoid": lambda x: jnp.sum(jax.nn.sigmoid(x) * x),
    "where sqrt": lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)),
    "erf": lambda x: jnp.sum(lax.erf(x) * lax.rsqrt(1 + x * x)),
    "recurrence": recurrence,
    "matrix product": matrix_product,
}
SIZES = (1, 10, 1_000, 100_000, 1_000_000)
DTYPES = ("float32", "bfloat16")


def alarms(fun: Function, x: jax.Array) -> dict[str, bool]:
    """Which checkers call the gradient wrong."""

    def raises(peer: Callable[[], Any]) -> bool:
        try:
            peer()
        except AssertionError:
            return True
        return False

    return {
        "fbp": not check(fun, x).ok,
        "check_grads": raises(lambda: check_grads(fun, (x,), order=1, modes=["rev"])),
        "chex": raises(lambda: chex.assert_numerical_grads(fun, (x,), order=1, modes=["rev"])),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(FUNCTIONS), choices=list(FUNCTIONS))
    args = parser.parse_args()
    total: dict[str, int] = {}
    checks = 0
    print("| function | checks | fbp | check_grads | chex |\n|---|---|---|---|---|")
    for name in args.only:
        wrong: dict[str, int] = dict.fromkeys(("fbp", "check_grads", "chex"), 0)
        tried = 0
        for size in SIZES:
            for dtype in DTYPES:
                for seed in range(args.seeds):
                    x = jax.random.normal(jax.random.key(seed), (size,), dtype)
                    found = alarms(FUNCTIONS[name], x)
                    wrong = {who: n + found[who] for who, n in wrong.items()}
                    tried += 1
                    if found["fbp"]:
                        print(check(FUNCTIONS[name], x), name, size, dtype, seed, file=sys.stderr)
            jax.clear_caches()
        checks += tried
        total = {who: total.get(who, 0) + n for who, n in wrong.items()}
        print(f"| {name} | {tried} | {' | '.join(map(str, wrong.values()))} |", flush=True)
    print(
        f"\n{checks} checks of right gradients; called wrong by "
        + ", ".join(f"{who}: {n}" for who, n in total.items())
    )


if __name__ == "__main__":
    main()
