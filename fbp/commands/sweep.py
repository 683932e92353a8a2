"""`fbp sweep`: train at every rate of a config, and record it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from fbp.config import Config
from fbp.config_file import config_of, read_tables
from fbp.structure import to_toml

Settings = Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="KEY=VALUE", name="set")]


@dataclass(frozen=True)
class Sweep:
    """Train a network at every learning rate of a config, and say which is best."""

    config: Annotated[Positional[Path], arg(metavar="CONFIG")]
    """TOML file, see configs/."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Directory of the run; runs/NAME if not given, with the config's name."""
    overwrite: FlagCreatePairsOff[bool] = False
    """Replace the run that is in the directory."""
    seeds: Annotated[int | None, arg(metavar="N")] = None
    """Number of seeds, in place of the config's."""
    settings: Settings = ()
    """Set a key of the config, such as train.steps=100. May be given several times."""

    def __call__(self) -> None:
        """Run the sweep, and print its progress and its outcome."""
        seeds = [] if self.seeds is None else [f"sweep.seeds = {self.seeds}"]
        settings = [*self.settings, *seeds]
        tables = read_tables(self.config, settings)
        config = config_of(tables, str(self.config))
        snapshot = to_toml(tables) if settings else self.config.read_text(encoding="utf-8")
        _sweep(config, snapshot, self.out or Path("runs") / config.name, self.overwrite)


def _sweep(config: Config, snapshot: str, directory: Path, overwrite: bool) -> None:
    from fbp.records import check_free, create_run
    from fbp.report.run import read
    from fbp.report.words import verdict, warnings
    from fbp.sweep import check_gradient, problem_of, sweep, table

    check_free(directory, overwrite)
    problem = problem_of(config)
    check = check_gradient(problem)
    print(f"gradient: {check}", flush=True)
    create_run(directory, snapshot, overwrite=overwrite)
    summary = sweep(config, problem, directory, check)
    print(f"\n{table(summary)}\n\n{verdict(summary)}")
    for warning in warnings(read(directory)):
        print(f"warning: {warning}")
    print(f"records: {directory}")
