"""`fbp runs`: the runs in a directory."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fbp.commands.flags import Json
from fbp.commands.output import print_json


@dataclass(frozen=True)
class RunsCommand:
    """List the sweeps in a directory: the state, last step and best setting of each."""

    directory: Annotated[Positional[Path], arg(metavar="DIR")] = Path("runs")
    """Where they are; runs if not given."""
    json: Json = False

    def __call__(self) -> None:
        """Print the list."""
        from fbp.report.runs import list_runs, runs_table

        runs = list_runs(self.directory)
        if self.json:
            print_json([asdict(run) for run in runs])
        else:
            print(runs_table(runs))
