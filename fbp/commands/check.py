"""`fbp check`: is a gradient right?"""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from fbp import InputError
from fbp.config_file import config_of, read_tables


@dataclass(frozen=True)
class CheckCommand:
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
        from fbp.sweep import check_gradient, load_problem

        path = Path(self.target)
        agreement = check_gradient(load_problem(config_of(read_tables(path), str(path))))
        print(f"gradient: {agreement}")
        return 0 if agreement.agrees else 1
