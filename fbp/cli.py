"""The command line: `fbp` and its commands."""

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import subcommand

from fbp import InputError, MissingRule, __version__
from fbp.commands.check import CheckCommand
from fbp.commands.configs import ConfigsCommand
from fbp.commands.experiments import ExperimentsCommand
from fbp.commands.fit import FitCommand
from fbp.commands.merge import MergeCommand
from fbp.commands.plan import PlanCommand
from fbp.commands.predict import PredictCommand
from fbp.commands.report import ReportCommand
from fbp.commands.run import RunCommand, run
from fbp.commands.runs import RunsCommand
from fbp.commands.show import ShowCommand
from fbp.commands.sweep import SweepCommand
from fbp.extras import missing_extra

Command = (
    Annotated[SweepCommand, subcommand("sweep")]
    | Annotated[MergeCommand, subcommand("merge")]
    | Annotated[PlanCommand, subcommand("plan")]
    | Annotated[ReportCommand, subcommand("report")]
    | Annotated[RunsCommand, subcommand("runs")]
    | Annotated[ConfigsCommand, subcommand("configs")]
    | Annotated[CheckCommand, subcommand("check")]
    | Annotated[ExperimentsCommand, subcommand("experiments")]
    | Annotated[ShowCommand, subcommand("show")]
    | Annotated[FitCommand, subcommand("fit")]
    | Annotated[PredictCommand, subcommand("predict")]
    | Annotated[RunCommand, subcommand("run")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status.

    0; 1 for a wrong gradient; 2 for bad input, with one line on stderr; 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else argv
    if list(argv) == ["--version"]:
        print(f"fbp {__version__}")
        return 0
    try:
        if list(argv[:1]) == ["run"] and list(argv[1:2]) not in (["-h"], ["--help"]):
            return run(argv[1:])  # what follows the program is the program's
        return _command(argv)
    except (InputError, MissingRule) as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        print("fbp: interrupted; what was recorded until now stays readable", file=sys.stderr)
        return 130


def _command(argv: Sequence[str]) -> int:
    """Run one of fbp's commands; what the machine lacks is told as bad input is."""
    try:
        return _parse(argv)() or 0
    except (InputError, MissingRule):
        raise
    except ModuleNotFoundError as error:
        text = missing_extra(error, argv[0] if argv else "")
        if text is None:
            raise
        raise InputError(text) from error
    except MemoryError:
        text = "not enough memory: give smaller sizes, or fewer trials at a time"
        raise InputError(text) from None
    except RecursionError:
        raise InputError("the input is nested too deeply") from None
    except OSError as error:
        text = f"{error.filename or 'a file'}: {error.strerror or error}"
        raise InputError(text) from error
    except ValueError as error:
        if "null byte" not in str(error):
            raise
        raise InputError("a path has a NUL in it: give one without") from error
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        advice = "give smaller sizes, or fewer trials at a time (sweep.trials = 'map')"
        raise InputError(f"a device has not enough memory: {advice}") from error


def _complain(text: str) -> int:
    print(f"fbp: {' '.join(text.split())}", file=sys.stderr)
    return 2


def _parse(argv: Sequence[str]) -> Command:
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
