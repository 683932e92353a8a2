"""Who takes part: each is a function from the work to a run of it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.throughput.work import Kind, Work

Run = Callable[[], Any]  # a string that it gives is a note for the table
Group = Literal["fbp", "hand-written JAX", "other", "PyTorch loop", "machine"]


@dataclass(frozen=True)
class Contender:
    """A way to train the trials.

    Attributes:
      name: as the table has it.
      where: module of this package and function.
      group: what it counts as among the targets.
      some: whether it trains each rate once, in place of all trials: it trains one after another,
        so that its trial-steps per second do not depend on their number.
      kinds: the networks that it can train.
      platforms: JAX's names of those where it takes part.
    """

    name: str
    where: tuple[str, str]
    group: Group
    some: bool = False
    kinds: tuple[Kind, ...] = ("mlp", "cnn")
    platforms: tuple[str, ...] = ("cpu", "gpu", "tpu")

    def load(self) -> Callable[[Work], Run] | None:
        """Return the function; None where a library that it needs is not installed."""
        module, function = self.where
        try:
            return getattr(importlib.import_module(f"benchmarks.throughput.{module}"), function)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] in ("fbp", "benchmarks"):
                raise
            return None

    def trial_steps(self, work: Work) -> int:
        """How many steps one run makes, over all its trials."""
        return work.steps * len(work.some_trials if self.some else work.trials)


CONTENDERS = (
    Contender("fbp sweep", ("fbp_sweep", "sweep"), "fbp"),
    Contender("jit(vmap(scan))", ("hand_written", "jit_vmap"), "hand-written JAX"),
    Contender("jit(lax.map(scan))", ("hand_written", "jit_map"), "hand-written JAX"),
    Contender("jit(shard_map(vmap(scan)))", ("hand_written", "shard_vmap"), "hand-written JAX"),
    Contender("jit(shard_map(lax.map(scan)))", ("hand_written", "shard_map"), "hand-written JAX"),
    Contender("jit(scan), loop over trials", ("hand_written", "jit_scan"), "hand-written JAX"),
    Contender("jitted step, Python loop", ("hand_written", "python_loop"), "other", some=True),
    Contender("PyTorch loop, 1 thread", ("pytorch", "one_thread"), "PyTorch loop", some=True),
    Contender("PyTorch loop, 2 threads", ("pytorch", "two_threads"), "PyTorch loop", some=True),
    Contender("PyTorch loop, 2 processes", ("pytorch", "two_processes"), "other", some=True),
    Contender(
        "PyTorch loop, torch.compile",
        ("pytorch", "compiled"),
        "other",
        some=True,
        platforms=("gpu",),
    ),
    Contender("torch.func vmap ensemble", ("pytorch", "ensemble"), "other"),
    Contender(
        "scikit-learn MLPClassifier",
        ("scikit_learn", "mlp_classifier"),
        "other",
        some=True,
        kinds=("mlp",),
    ),
    Contender("Keras 3 fit", ("keras3", "fit"), "other", some=True),
    Contender(
        "bare matrix products",
        ("bare_dots", "dots"),
        "machine",
        kinds=("mlp",),
        platforms=("cpu",),  # one trial's after another's leave a GPU idle
    ),
)
