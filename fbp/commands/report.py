"""`fbp report`: a run's page and pictures, or one page that compares runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from fbp.commands.flags import Json, Open, file_in
from fbp.commands.output import open_page, print_json
from fbp.errors import InputError


@dataclass(frozen=True)
class ReportCommand:
    """Write a run's page and pictures into its directory, or compare runs on one page."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]")]
    """Directory that `fbp sweep` wrote; two or more with --compare."""
    compare: FlagCreatePairsOff[bool] = False
    """Write one page on all the runs: which trained best, how surely, and what differs."""
    out: Annotated[Path, arg(metavar="DIR")] = Path()
    """Directory of the comparison, comparison.html; the working directory if not given. A name
    that ends in .html is that of the page itself."""
    tensorboard: Annotated[Path | None, arg(metavar="DIR")] = None
    """New directory for the run's curves as TensorBoard events, in place of the page."""
    json: Json = False
    open: Open = False

    def __call__(self) -> None:
        """Write the report, and print where it is."""
        if self.compare and self.tensorboard is not None:
            raise InputError("--tensorboard takes one run, --compare several: give one of them")
        if self.out != Path() and not self.compare:
            raise InputError("--out goes with --compare: a run's report lies in its directory")
        if not self.compare and len(self.runs) != 1:
            raise InputError(f"{len(self.runs)} runs: give one, or --compare")
        if self.open and self.tensorboard is not None:
            raise InputError("--open opens a page, and --tensorboard writes none")
        report = self._write()
        if self.json:
            print_json({"report": report})
        else:
            print(f"report: {report}")
        if self.open:
            open_page(report)

    def _write(self) -> Path:
        from fbp import report
        from fbp.report import tensorboard

        if self.compare:
            return report.compare(self.runs, file_in(self.out, "comparison.html"))
        if self.tensorboard is not None:
            return tensorboard.write_events(self.runs[0], self.tensorboard)
        return report.write_report(self.runs[0])
