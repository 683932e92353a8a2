"""`fbp check`: is a gradient right?"""

import contextlib
import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from fbp import InputError
from fbp.commands.flags import Json, Open, Seed
from fbp.commands.output import open_page, print_json

if TYPE_CHECKING:
    from fbp.verify.agreement import Agreement
    from fbp.verify.report import Report


@dataclass(frozen=True)
class CheckCommand:
    """Check a function's gradient, or that of a config's network; train nothing.

    Exits with 0 if it is right, 1 if it is wrong, 2 if it could not be checked, 130 after Ctrl-C,
    with the report of what was checked until then.
    """

    target: Annotated[Positional[str], arg(metavar="TARGET")]
    """package.module:function or file.py:function, or a TOML file, see configs/."""
    args: Annotated[tuple[str, ...], arg(metavar="ARG")] = ()
    """The function's arguments: one package.module:name of a tuple of them, or of a function that
    makes it; or one dtype[shape] for each, random, as in 'float32[5,4]'."""
    argnums: tuple[int, ...] = (0,)
    """The numbers of the arguments that are differentiated."""
    declared: Annotated[tuple[str, ...], arg(metavar="NAME")] = ()
    """Functions whose rule deviates on purpose, leaves whose gradient is zero; name=TOLERANCE, or
    name=package.module:function for the function whose derivative the rule is."""
    reference: Annotated[str | None, arg(metavar="NAME")] = None
    """package.module:function, a second implementation, which is the truth."""
    gradient: Annotated[str | None, arg(metavar="NAME")] = None
    """package.module:function, the gradient to check in the place of fbp's."""
    seed: Seed = 0
    json: Json = False
    html: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write the report as a page, with pictures."""
    open: Open = False

    def __call__(self) -> int:
        """Check, and print the report; 0 if the gradient is right, else 1."""
        from fbp.verify.target import is_name

        if is_name(self.target):
            return self._check_function()
        if self != type(self)(self.target, json=self.json):
            raise InputError(
                f"{self.target} is no package.module:function, and a config takes no --args, "
                "no --html and no other setting but --json."
            )
        return self._check_config()

    def _check_function(self) -> int:
        from fbp.verify.page import write_page
        from fbp.verify.parts import Interrupted
        from fbp.verify.target import check_target

        settings: dict[str, Any] = {
            "argnums": self.argnums,
            "declared": self.declared,
            "reference": self.reference,
            "gradient": self.gradient,
        }
        if self.open and self.html is None:
            raise InputError("--open opens a page: give --html FILE too")
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what the function prints is no report
                report, ladders = check_target(
                    self.target,
                    self.args,
                    pictures=self.html is not None,
                    seed=self.seed,
                    **settings,
                )
        except Interrupted as interrupted:
            self._print(interrupted.report)
            return 130
        report = replace(report, command=self._again())
        if self.html is not None:
            write_page(self.html, report, ladders)
        self._print(report)
        if self.html is not None and self.open:
            open_page(self.html)
        return 0 if report.ok else 1

    def _print(self, report: "Report") -> None:
        from fbp.verify.terminal import colored

        print(report.to_json() if self.json else colored(report, sys.stdout))

    def _again(self) -> str:
        """Return the command that prints the same numbers."""
        words = ["fbp", "check", self.target, "--args", *self.args]
        if self.argnums != (0,):
            words += ["--argnums", *map(str, self.argnums)]
        if self.declared:
            words += ["--declared", *self.declared]
        for name in ("reference", "gradient"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name}", value]
        if self.seed:
            words += ["--seed", str(self.seed)]
        return shlex.join(words)

    def _check_config(self) -> int:
        from fbp.sweep import check_gradient, load_problem

        path = Path(self.target)
        from fbp.config_file import config_of, read_tables

        agreement = check_gradient(load_problem(config_of(read_tables(path), str(path))))
        if self.json:
            print_json({"ok": agreement.agrees, **_numbers(agreement)})
        else:
            print(f"gradient: {agreement}")
        return 0 if agreement.agrees else 1


def _numbers(agreement: "Agreement") -> dict[str, Any]:
    """Return an agreement as plain data; a complex entry is text."""
    return {
        name: str(value) if isinstance(value, complex) else value
        for name, value in asdict(agreement).items()
    }
