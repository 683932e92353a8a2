"""`fbp report`: a run's page and pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Report:
    """Write a run's page and pictures into its directory."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Directory that `fbp sweep` wrote."""

    def __call__(self) -> None:
        """Write the report, and print where it is."""
        from fbp.report import write

        print(f"report: {write(self.run)}")
