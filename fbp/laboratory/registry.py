"""Find experiments by name, and read their settings."""

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbp.errors import InputError, suggestion
from fbp.extras import NO_EXPERIMENTS
from fbp.laboratory.experiment import Outcome
from fbp.structure import parse_setting, read_toml, strict_converter, structure


@dataclass(frozen=True)
class Experiment:
    """A folder of `experiments/`: its name, its path, and the module of its script."""

    name: str
    directory: Path
    module: Any

    @property
    def question(self) -> str:
        """The first line of the script's docstring."""
        return (inspect.getdoc(self.module) or "").partition("\n")[0]

    def settings(self, *, quick: bool = False, over: tuple[str, ...] = ()) -> Any:
        """Read its settings.

        Args:
          quick: put the config's table `[quick]` over the others.
          over: what to set besides, each a line of TOML such as `steps = 100`.

        Raises InputError that names the key for whatever does not fit.
        """
        path = self.directory / "config.toml"
        tables = read_toml(path)
        quickly = tables.pop("quick", {})
        if quick:
            tables |= quickly
        for line in over:
            tables |= parse_setting(line)
        return structure(tables, self.module.Settings, strict_converter(), str(path))

    def run(self, settings: Any) -> Outcome:
        """Run it."""
        return self.module.run(settings)


def experiment_names() -> tuple[str, ...]:
    """List the names of all experiments.

    >>> "quadratic" in experiment_names()
    True
    """
    return tuple(sorted(path.parent.name for path in _root().glob("*/run.py")))


def get_experiment(name: str) -> Experiment:
    """Return the experiment of that name; InputError lists the names.

    >>> get_experiment("quadratic").question
    'At which learning rate does gradient descent diverge on a quadratic?'
    """
    if name not in experiment_names():
        raise InputError(f"no experiment {name}: {suggestion(name, experiment_names())}")
    module = importlib.import_module(f"experiments.{name}.run")
    return Experiment(name, _root() / name, module)


def _root() -> Path:
    try:
        import experiments
    except ModuleNotFoundError:
        raise InputError(NO_EXPERIMENTS) from None
    return Path(experiments.__path__[0])
