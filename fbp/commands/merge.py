"""`fbp merge`: the parts of a divided sweep as one run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fbp.commands.backend import compilation_cache, use_every_core
from fbp.commands.divided import tell_outcome
from fbp.commands.flags import Json


@dataclass(frozen=True)
class MergeCommand:
    """Make one run of the parts that `fbp sweep CONFIG --part i/n` has trained.

    A part that is missing, unfinished or there twice is named, and nothing is written.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...")]
    """Directory of the divided run; several where its parts share none."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Directory of the merged run; that of the divided run if not given."""
    json: Json = False

    def __call__(self) -> None:
        """Merge, and print the outcome."""
        use_every_core()
        from fbp.errors import InputError
        from fbp.sweep.merging import merge

        if not self.runs:
            raise InputError("fbp merge takes the directory of a divided run")
        with compilation_cache():
            summary = merge(self.runs, out=self.out)
        tell_outcome(summary, self.out or self.runs[0], self.json)
