"""`fbp experiments`: published results, reproduced."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, OmitSubcommandPrefixes, Positional, arg, subcommand

from fbp.commands.sweep import Settings
from fbp.errors import InputError

DEFAULT_OUT = Path("runs/experiments")


@dataclass(frozen=True)
class ListExperiments:
    """Name every experiment, and its question."""

    def __call__(self) -> int:
        """Print them."""
        from fbp.laboratory.registry import experiment_names, get_experiment

        width = max(map(len, experiment_names()))
        for name in experiment_names():
            print(f"{name:{width}}  {get_experiment(name).question}")
        return 0


@dataclass(frozen=True)
class TabulateExperiments:
    """Print what the full runs found: published, measured, band."""

    def __call__(self) -> int:
        """Print the table, as Markdown."""
        from fbp.laboratory.registry import experiment_names, get_experiment
        from fbp.laboratory.runner import checks_table, read_checks

        rows = [
            (name, check)
            for name in experiment_names()
            for check in read_checks(get_experiment(name).directory)
        ]
        print(checks_table([check for _, check in rows], [name for name, _ in rows]))
        return 0


@dataclass(frozen=True)
class RunExperiments:
    """Run experiments, and hold what they measure against the published numbers.

    Exits with 0 if every number lies in its band, 1 if not, 2 for bad input.
    """

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME")] = ()
    """Which ones."""
    all: FlagCreatePairsOff[bool] = False
    """All of them."""
    quick: FlagCreatePairsOff[bool] = False
    """A smaller case of each, in less than two minutes."""
    out: Annotated[Path, arg(metavar="DIR")] = DEFAULT_OUT
    """Where the results go, a directory for each experiment."""
    settings: Settings = ()
    """Set a key of the config, such as steps=100. May be given several times."""

    def __call__(self) -> int:
        """Run them; 0 if every check passed."""
        import shlex

        from fbp.laboratory.registry import experiment_names, get_experiment
        from fbp.laboratory.runner import checks_table, run_experiment

        if self.all == bool(self.names):
            raise InputError("give the names of experiments, or --all: see fbp experiments list")
        experiments = [
            get_experiment(name) for name in (experiment_names() if self.all else self.names)
        ]
        missed = []
        for experiment in experiments:
            print(f"\n{experiment.name}: {experiment.question}", flush=True)
            settings = experiment.settings(quick=self.quick, over=self.settings)
            options = ["--quick"] * self.quick
            if self.out != DEFAULT_OUT:
                options += ["--out", str(self.out)]
            for setting in self.settings:
                options += ["--set", setting]
            command = shlex.join(["fbp", "experiments", "run", experiment.name, *options])
            directory = self.out / experiment.name
            outcome = run_experiment(experiment, settings, directory, command)
            print(f"\n{checks_table(outcome.checks)}\n\nresult: {directory}", flush=True)
            missed += [experiment.name for check in outcome.checks if not check.passed]
        if missed:
            print(f"outside the band: {', '.join(dict.fromkeys(missed))}")
        return 1 if missed else 0


@dataclass(frozen=True)
class ExperimentsCommand:
    """Reproduce published results on learning rates."""

    action: OmitSubcommandPrefixes[
        Annotated[ListExperiments, subcommand("list")]
        | Annotated[RunExperiments, subcommand("run")]
        | Annotated[TabulateExperiments, subcommand("table")]
    ]

    def __call__(self) -> int:
        """Do it; its exit status."""
        return self.action()
