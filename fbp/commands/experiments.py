"""`fbp experiments`: published results, reproduced."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import FlagCreatePairsOff, OmitSubcommandPrefixes, Positional, arg, subcommand

from fbp.commands.flags import Json, Overwrite, Quiet, Settings
from fbp.commands.output import print_json, teller, warn
from fbp.errors import InputError

if TYPE_CHECKING:
    from fbp.laboratory.experiment import Check
    from fbp.laboratory.registry import Experiment

DEFAULT_OUT = Path("runs/experiments")


@dataclass(frozen=True)
class ListExperiments:
    """Name every experiment, and its question."""

    json: Json = False

    def __call__(self) -> int:
        """Print them."""
        from fbp.laboratory.registry import experiment_names, get_experiment

        questions = {name: get_experiment(name).question for name in experiment_names()}
        if self.json:
            print_json(questions)
        for name, question in () if self.json else questions.items():
            print(f"{name:{max(map(len, questions))}}  {question}")
        return 0


@dataclass(frozen=True)
class TabulateExperiments:
    """Print what the full runs found: published, measured, band."""

    json: Json = False

    def __call__(self) -> int:
        """Print the table, as Markdown."""
        from fbp.laboratory.registry import experiment_names, get_experiment
        from fbp.laboratory.runner import checks_table, read_checks

        rows = [
            (name, check)
            for name in experiment_names()
            for check in read_checks(get_experiment(name).directory)
        ]
        if self.json:
            print_json([{"experiment": name, **asdict(check)} for name, check in rows])
            return 0
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
    overwrite: Overwrite = False
    settings: Settings = ()
    """Set a key of the config, such as steps=100. May be given several times."""
    json: Json = False
    quiet: Quiet = False

    def __call__(self) -> int:
        """Run them; 0 if every check passed."""
        from fbp.laboratory.registry import experiment_names, get_experiment
        from fbp.laboratory.runner import checks_table, run_experiment

        if self.all == bool(self.names):
            raise InputError("give the names of experiments, or --all: see fbp experiments list")
        experiments = [
            get_experiment(name) for name in (experiment_names() if self.all else self.names)
        ]
        self._check_free(experiments)
        say, outcomes = teller(self.json, self.quiet), {}
        for experiment in experiments:
            say(f"\n{experiment.name}: {experiment.question}")
            settings = experiment.settings(quick=self.quick, over=self.settings)
            directory = self.out / experiment.name
            with self._stdout():
                again = self._again(experiment.name)
                outcome = run_experiment(experiment, settings, directory, again)
            outcomes[experiment.name] = outcome.checks
            if not self.json:
                print(f"\n{checks_table(outcome.checks)}\n\nresult: {directory}", flush=True)
        return self._end(outcomes)

    def _stdout(self) -> AbstractContextManager[Any]:
        """Return where experiments print: beside stdout, where that holds the outcome alone."""
        return redirect_stdout(sys.stderr) if self.json or self.quiet else nullcontext()

    def _check_free(self, experiments: Sequence["Experiment"]) -> None:
        from fbp.laboratory.runner import RESULT

        for experiment in () if self.overwrite else experiments:
            if (path := self.out / experiment.name / RESULT).exists():
                raise InputError(f"{path}: is there already: give another --out, or --overwrite")

    def _again(self, name: str) -> str:
        """Return the command that reproduces the result of an experiment."""
        options = ["--quick"] * self.quick
        if self.out != DEFAULT_OUT:
            options += ["--out", str(self.out)]
        for setting in self.settings:
            options += ["--set", setting]
        return shlex.join(["fbp", "experiments", "run", name, *options])

    def _end(self, outcomes: Mapping[str, Sequence["Check"]]) -> int:
        """Print the outcomes, unless that was done one by one; return the exit status."""
        if self.json:
            print_json(
                {
                    name: {
                        "passed": all(check.passed for check in checks),
                        "directory": self.out / name,
                        "checks": [asdict(check) for check in checks],
                    }
                    for name, checks in outcomes.items()
                }
            )
        missed = [name for name, checks in outcomes.items() if not all(c.passed for c in checks)]
        if missed:
            warn(f"outside the band: {', '.join(missed)}")
        return 1 if missed else 0


ACTIONS = ("list", "run", "table")


@dataclass(frozen=True)
class ExperimentsCommand:
    """Reproduce published results on learning rates and backward passes."""

    action: OmitSubcommandPrefixes[
        Annotated[ListExperiments, subcommand("list")]
        | Annotated[RunExperiments, subcommand("run")]
        | Annotated[TabulateExperiments, subcommand("table")]
    ]

    def __call__(self) -> int:
        """Do it; its exit status."""
        return self.action()
