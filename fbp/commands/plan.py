"""`fbp plan`: what a config will need, before anything runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fbp.commands.backend import use_every_core
from fbp.commands.sweep import Settings


@dataclass(frozen=True)
class PlanCommand:
    """Say how much memory and work a config's update and its sweep need on each device.

    Both are compiled, and not run: for the devices here, or for a TPU slice, which need not be.
    """

    config: Annotated[Positional[Path], arg(metavar="CONFIG")]
    """TOML file, or the name of one that `fbp configs list` lists."""
    target: Annotated[str | None, arg(metavar="SLICE")] = None
    """TPU slice, such as v5e:2x2; the devices here if not given. It takes fbp-jax[tpu]."""
    budgets: bool = False
    """Draw the work of a gradient against its memory, in place of the plan: up to eight programs
    are compiled for each combination of the axes' values."""
    settings: Settings = ()
    """Set a key of the config, such as train.batch_size=64. May be given several times."""

    def __call__(self) -> None:
        """Print the plan, one for each combination of the axes' values."""
        from fbp.config_file import config_of, read_tables

        config = config_of(read_tables(self.config, self.settings), str(self.config))
        _use_cpu() if self.target else use_every_core()
        from fbp.plan import budgets, budgets_report, local_target, plan, report, tpu_slice
        from fbp.sweep import studies_of

        target = tpu_slice(self.target) if self.target else local_target()
        for study in studies_of(config):
            setting = "".join(f", {key} = {value}" for key, value in study.trials[0].axes.items())
            if self.budgets:
                drawn = f"{target.name}\n\n{budgets_report(budgets(study, target))}"
            else:
                drawn = report(plan(study, target))
            print(f"{config.name}{setting} on {drawn}\n", flush=True)


def _use_cpu() -> None:
    """Use the CPU: compiling for devices that are elsewhere needs none of those present."""
    import jax

    if not jax.config.values["jax_platforms"]:
        jax.config.update("jax_platforms", "cpu")
