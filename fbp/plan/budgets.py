"""Work against memory: what `[train] memory` chooses from, for a config's gradient."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from fbp.autodiff.memory.trade_off import Choice, trade_off
from fbp.plan.devices import DeviceTarget
from fbp.plan.requirements import shapes_of
from fbp.plan.text import amount, shortened
from fbp.sweep.study import Study
from fbp.train.engine import plain_loss

WIDTH = 24  # characters of the longest bar
LINES = 5  # source lines that are shown of each choice
SMALLEST = 0.005  # share of the work that is shown


def budgets(study: Study, target: DeviceTarget) -> list[Choice]:
    """Compile the gradient of one trial in the ways that a budget chooses from, for a target.

    Args:
      study: the trials.
      target: the devices, of which one counts.

    Returns:
      The ways, in the order of their work, without those that save no memory.

    >>> from pathlib import Path
    >>> from fbp.config_file import load_config
    >>> from fbp.plan import local_target
    >>> from fbp.sweep import studies_of
    >>> (study,) = studies_of(load_config(Path("configs/digits_mlp.toml")))
    >>> budgets(study, local_target())[0].scheme
    'nothing is computed again'
    """
    state, batch = shapes_of(study)
    loss_fn = plain_loss(study.problem, state.carried)
    sharding = SingleDeviceSharding(target.devices[0])
    choices: list[Choice] = []

    def compile_all(params: Any, batch: Any, key: Any) -> None:
        for choice in trade_off(lambda params: loss_fn(params, batch, key), params, sharding):
            if not choices or choice.temporary < choices[-1].temporary:
                choices.append(choice)

    jax.eval_shape(compile_all, state.params, batch, state.key)
    return choices


def budgets_report(choices: Sequence[Choice]) -> str:
    """Draw the temporary memory of each choice beside its work, and list what it computes again.

    Args:
      choices: the ways that `budgets` returns.

    Returns:
      A table for a terminal.

    >>> choices = [Choice(4096, 1.0, 0, "nothing is computed again", {})]
    >>> choices += [Choice(1024, 1.25, 0, "4 stretches, nothing stored", {"model.py:7:4": 0.25})]
    >>> print(budgets_report(choices))
    a gradient's memory               work
    ████████████████████████  4 KiB   1.00  nothing is computed again
    ██████                    1 KiB   1.25  4 stretches, nothing stored
                                     +0.25    model.py:7:4
    """
    most = max(1, *(choice.temporary for choice in choices))
    rows = [["a gradient's memory", "", "work", ""]]
    for choice in choices:
        bar = "█" * max(1, round(WIDTH * choice.temporary / most))
        transfers = f", {amount(choice.transferred)} moved" if choice.transferred else ""
        scheme = f"{choice.scheme}{transfers}"
        rows.append([bar, amount(choice.temporary), f"{choice.work:.2f}", scheme])
        lines = [(line.rpartition(" ")[0] or line, share) for line, share in choice.again.items()]
        shown = [(shortened(line), share) for line, share in lines if line and share >= SMALLEST]
        rows += [["", "", f"+{share:.2f}", f"  {line}"] for line, share in shown[:LINES]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    align = (str.ljust, str.rjust, str.rjust, str.ljust)
    return "\n".join(
        "  ".join(
            f(cell, width) for f, cell, width in zip(align, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
