"""`fbp runs`: the runs in a directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class RunsCommand:
    """List the sweeps in a directory: their state, their last step and the best setting of each."""

    directory: Annotated[Positional[Path], arg(metavar="DIR")] = Path("runs")
    """Where they are; runs if not given."""

    def __call__(self) -> None:
        """Print the list."""
        from fbp.report.runs import list_runs, runs_table

        print(runs_table(list_runs(self.directory)))
