"""The command line: `fbp` and its commands."""

import contextlib
import inspect
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, get_args

import tyro
from tyro.conf import subcommand

import fbp
from fbp.commands.check import CheckCommand
from fbp.commands.compare import CompareCommand
from fbp.commands.completion import CompletionCommand
from fbp.commands.configs import ConfigsCommand
from fbp.commands.experiments import ACTIONS, ExperimentsCommand
from fbp.commands.fit import FitCommand
from fbp.commands.merge import MergeCommand
from fbp.commands.plan import PlanCommand
from fbp.commands.predict import PredictCommand
from fbp.commands.report import ReportCommand
from fbp.commands.run import RunCommand, run_program
from fbp.commands.runs import RunsCommand
from fbp.commands.show import ShowCommand
from fbp.commands.sweep import SweepCommand
from fbp.errors import InputError, suggestion
from fbp.extras import missing_extra

Command = (
    Annotated[SweepCommand, subcommand("sweep")]
    | Annotated[MergeCommand, subcommand("merge")]
    | Annotated[PlanCommand, subcommand("plan")]
    | Annotated[ReportCommand, subcommand("report")]
    | Annotated[CompareCommand, subcommand("compare")]
    | Annotated[RunsCommand, subcommand("runs")]
    | Annotated[ConfigsCommand, subcommand("configs")]
    | Annotated[CheckCommand, subcommand("check")]
    | Annotated[ExperimentsCommand, subcommand("experiments")]
    | Annotated[ShowCommand, subcommand("show")]
    | Annotated[FitCommand, subcommand("fit")]
    | Annotated[PredictCommand, subcommand("predict")]
    | Annotated[RunCommand, subcommand("run")]
    | Annotated[CompletionCommand, subcommand("completion")]
)
COMMANDS = {name.name: command for command, name in map(get_args, get_args(Command))}
VERSION, HELP = ("-V", "--version"), ("-h", "--help")
END_OF_HELP = """
Options:
  -h, --help     of fbp, or of a command: fbp COMMAND --help
  -V, --version

Exit status: 0; 1 where a gradient or a number is wrong; 2 for bad input, with one line on stderr;
130 after Ctrl-C. NO_COLOR=1 leaves colors out.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status.

    0; 1 for a wrong gradient; 2 for bad input, with one line on stderr; 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    of_fbp = argv[:2] if argv[:1] == ["run"] else argv  # what follows the program is the program's
    if set(VERSION) & set(of_fbp):
        print(f"fbp {fbp.__version__}")
        return 0
    if argv[:1] and argv[0] in HELP:
        print(_overview())
        return 0
    try:
        if argv[:1] == ["run"] and not set(HELP) & set(of_fbp):
            return run_program(argv[1:])
        return _command(argv)
    except InputError as error:
        return _complain(str(error))
    except NotImplementedError as error:
        if isinstance(error, fbp.MissingRule):  # asked here alone, since it imports JAX
            return _complain(str(error))
        raise
    except BrokenPipeError:  # the reader of what is printed has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, which Python flushes at its end
        return 0
    except KeyboardInterrupt:
        print("fbp: interrupted; what was recorded until now stays readable", file=sys.stderr)
        return 130


def _overview() -> str:
    """Return what `fbp --help` prints: each command in a line."""
    lines = [f"  {name:{max(map(len, COMMANDS))}}  {_headline(c)}" for name, c in COMMANDS.items()]
    head = f"usage: fbp COMMAND ...\n\nfbp {fbp.__version__}: functional backpropagation in JAX."
    return "\n".join([head, "\nCommands:", *lines, END_OF_HELP.rstrip()])


def _headline(command: type) -> str:
    return (inspect.getdoc(command) or "").partition("\n")[0]


def _command(argv: Sequence[str]) -> int:
    """Run one of fbp's commands; what the machine lacks is told as bad input is."""
    try:
        return _parse(argv)() or 0
    except InputError:
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
    except BrokenPipeError:
        raise
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
    _check_names(argv)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _plain_if_no_color():
            return tyro.cli(Command, prog="fbp", args=list(argv))
    except SystemExit as exit:
        if not exit.code:
            raise
        unboxed = complaint.getvalue().translate({ord(c): " " for c in "╭╮╰╯│─"})
        raise InputError(unboxed) from None


def _check_names(argv: Sequence[str]) -> None:
    """Raise InputError, with the likeliest one, for a name that is no command's."""
    chain = zip(argv, (COMMANDS, ACTIONS if argv[:1] == ["experiments"] else {}), strict=False)
    for word, names in chain:
        if names and word not in names and not word.startswith("-"):
            hint = suggestion(word, names)
            raise InputError(f"Unrecognized options: {word}: {hint}. See fbp --help")


@contextlib.contextmanager
def _plain_if_no_color() -> Iterator[None]:
    """Within it, what is printed has no colors if NO_COLOR is set, on a terminal either."""
    if not os.environ.get("NO_COLOR"):
        yield
        return
    plain = io.StringIO()
    try:
        with contextlib.redirect_stdout(plain):
            yield
    finally:
        print(plain.getvalue(), end="")
