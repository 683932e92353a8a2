"""`fbp report`: a run's page and pictures, or one page that compares runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from fbp.errors import InputError


@dataclass(frozen=True)
class Report:
    """Write a run's page and pictures into its directory, or compare runs on one page."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]")]
    """Directory that `fbp sweep` wrote; two or more with --compare."""
    compare: FlagCreatePairsOff[bool] = False
    """Write one page on all the runs: which trained best, how surely, and what differs."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """File for the comparison; comparison.html if not given."""

    def __call__(self) -> None:
        """Write the report, and print where it is."""
        from fbp import report

        if self.compare:
            page = report.compare(self.runs, self.out or Path("comparison.html"))
        elif self.out is not None:
            raise InputError("--out goes with --compare: a run's report lies in its directory")
        elif len(self.runs) != 1:
            raise InputError(f"{len(self.runs)} runs: give one, or --compare")
        else:
            page = report.write(self.runs[0])
        print(f"report: {page}")
