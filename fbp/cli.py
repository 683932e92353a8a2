"""The command line: `fbp sweep`, `fbp report`, `fbp check`."""

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg, subcommand

from fbp import InputError, MissingRule, __version__
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


@dataclass(frozen=True)
class Report:
    """Write a run's page and pictures into its directory."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Directory that `fbp sweep` wrote."""

    def __call__(self) -> None:
        """Write the report, and print where it is."""
        from fbp.report import write

        print(f"report: {write(self.run)}")


@dataclass(frozen=True)
class Check:
    """Check a function's gradient, or that of a config's network; train nothing.

    Exits with 0 if it is right, 1 if it is wrong, 2 if it could not be checked.
    """

    target: Annotated[Positional[str], arg(metavar="TARGET")]
    """package.module:function, or a TOML file, see configs/."""
    args: Annotated[tuple[str, ...], arg(metavar="ARG")] = ()
    """The function's arguments: one package.module:name of a tuple of them, or of a function that
    makes it; or one dtype[shape] for each, random, as in 'float32[5,4]'."""
    json: FlagCreatePairsOff[bool] = False
    """Print the report as JSON."""
    html: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write the report as a page, with pictures."""

    def __call__(self) -> int:
        """Check, and print the report; 0 if the gradient is right, else 1."""
        from fbp.verify.target import is_name

        if is_name(self.target):
            return self._check_function()
        if self.args or self.json or self.html:
            raise InputError(
                f"{self.target} is no package.module:function, and a config takes no --args, "
                "--json and --html."
            )
        return self._check_config()

    def _check_function(self) -> int:
        from fbp.verify.page import write_page
        from fbp.verify.target import check_target
        from fbp.verify.terminal import coloured

        with contextlib.redirect_stdout(sys.stderr):  # what the function prints is no report
            report, ladders = check_target(self.target, self.args, pictures=self.html is not None)
        if self.html is not None:
            write_page(self.html, report, ladders)
        print(report.to_json() if self.json else coloured(report, sys.stdout))
        return 0 if report.ok else 1

    def _check_config(self) -> int:
        from fbp.sweep import check_gradient, problem_of

        path = Path(self.target)
        agreement = check_gradient(problem_of(config_of(read_tables(path), str(path))))
        print(f"gradient: {agreement}")
        return 0 if agreement.agrees else 1


Command = (
    Annotated[Sweep, subcommand("sweep")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Check, subcommand("check")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; its exit status.

    0; 1 for a wrong gradient; 2 for bad input, with one line on stderr; 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    if list(argv) == ["--version"]:
        print(f"fbp {__version__}")
        return 0
    try:
        return _parse(argv)() or 0
    except (InputError, MissingRule) as error:
        print(f"fbp: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fbp: interrupted; what was recorded until now stays readable", file=sys.stderr)
        return 130


def _parse(argv: Sequence[str]) -> Sweep | Report | Check:
    description = f"fbp {__version__}: which learning rate trains a network best."
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(Command, prog="fbp", description=description, args=list(argv))
    except SystemExit as exit:
        if exit.code == 0:
            raise
        unboxed = complaint.getvalue().translate({ord(c): " " for c in "╭╮╰╯│─"})
        raise InputError(unboxed) from None


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
