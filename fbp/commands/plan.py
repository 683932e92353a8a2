"""`fbp plan`: what a config will need, before anything runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from fbp.commands.backend import use_every_core
from fbp.commands.flags import Json, Settings
from fbp.commands.output import print_json

if TYPE_CHECKING:
    from fbp.autodiff.memory.trade_off import Choice
    from fbp.plan import ResourcePlan
    from fbp.sweep.study import Study


@dataclass(frozen=True)
class PlanCommand:
    """Say how much memory and work a config's update and its sweep need on each device.

    Both are compiled, and not run: for the devices here, or for a TPU slice, which need not be.
    """

    config: Annotated[Positional[Path], arg(metavar="CONFIG")]
    """TOML file, or the name of one that `fbp configs list` lists."""
    target: Annotated[str | None, arg(metavar="SLICE")] = None
    """TPU slice, such as v5e:2x2; the devices here if not given. It takes fbp-jax[tpu]."""
    budgets: FlagCreatePairsOff[bool] = False
    """Draw the work of a gradient against its memory, in place of the plan: up to eight programs
    are compiled for each combination of the axes' values."""
    settings: Settings = ()
    """Set a key of the config, such as train.batch_size=64. May be given several times."""
    json: Json = False

    def __call__(self) -> None:
        """Print the plan, one for each combination of the axes' values."""
        from fbp.config_file import config_of, read_tables

        config = config_of(read_tables(self.config, self.settings), str(self.config))
        _use_cpu() if self.target else use_every_core()
        from fbp.plan import budgets, budgets_report, local_target, plan, report, tpu_slice
        from fbp.sweep import studies_of

        target = tpu_slice(self.target) if self.target else local_target()
        if self.json:
            print_json(
                [
                    _choices(study, budgets(study, target))
                    if self.budgets
                    else _as_data(study, plan(study, target))
                    for study in studies_of(config)
                ]
            )
            return
        for study in studies_of(config):
            setting = "".join(f", {key} = {value}" for key, value in study.trials[0].axes.items())
            if self.budgets:
                drawn = f"{target.name}\n\n{budgets_report(budgets(study, target))}"
            else:
                drawn = report(plan(study, target))
            print(f"{config.name}{setting} on {drawn}\n", flush=True)


def _choices(study: "Study", choices: Sequence["Choice"]) -> dict[str, Any]:
    """Return what is drawn of work and memory as plain data."""
    axes = dict(study.trials[0].axes)
    return {"name": study.config.name, "axes": axes, "budgets": list(map(asdict, choices))}


def _as_data(study: "Study", planned: "ResourcePlan") -> dict[str, Any]:
    """Return a plan as plain data: bytes, and floating-point operations."""
    target, parts = planned.target, ("parameters", "residuals")
    target_data = {"name": target.name, "kind": target.kind, "memory": target.memory}
    return {
        "name": study.config.name,
        "axes": dict(study.trials[0].axes),
        "target": target_data | {"devices": len(target.devices)},
        "trials": planned.trials,
        "steps": planned.steps,
        **{part: [asdict(size) for size in getattr(planned, part)] for part in parts},
        **{part: asdict(getattr(planned, part)) for part in ("optimizer", "update", "sweep")},
    }


def _use_cpu() -> None:
    """Use the CPU: compiling for devices that are elsewhere needs none of those present."""
    import jax

    if not jax.config.values["jax_platforms"]:
        jax.config.update("jax_platforms", "cpu")
