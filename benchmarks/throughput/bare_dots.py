"""The machine's own rate: the matrix products of an MLP's steps alone, in a compiled loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from benchmarks.throughput.work import BATCH, CLASSES, Work


def dots(work: Work) -> Callable[[], Any]:
    """Forward x W1 and h W2, backward h' d, d W2' and x' d', for all trials and steps.

    The products of one step are the factors of the next, so that none can be left out. All
    numbers are zero, which takes as long as any other. Each device has its share of the trials.
    """
    inputs, devices = work.x.shape[1], len(jax.devices())
    zeros = (jnp.zeros((inputs, work.hidden)), jnp.zeros((work.hidden, CLASSES)))
    batch = jnp.zeros((BATCH, inputs))
    trials = len(work.trials) // devices

    def step(_: Any, weights: Any) -> Any:
        w1, w2, x = weights
        h = x @ w1
        d = h @ w2
        return x.T @ (d @ w2.T), h.T @ d, x

    def device(w1: Any, w2: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, trials * work.steps, step, (w1[0], w2[0], x[0]))[0][None]

    over = P("trials")
    mesh = Mesh(np.array(jax.devices()), ("trials",))
    call = jax.jit(jax.shard_map(device, mesh=mesh, in_specs=over, out_specs=over, check_vma=False))
    spread = [jnp.broadcast_to(a, (devices, *a.shape)) for a in (*zeros, batch)]
    return lambda: jax.block_until_ready(call(*spread))


def operations(work: Work) -> int:
    """Floating-point operations of those products in one step of one trial."""
    inputs, hidden = work.x.shape[1], work.hidden
    return 2 * BATCH * hidden * (2 * inputs + 3 * CLASSES)
