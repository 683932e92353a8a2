"""`fbp compare`: which run trained better, where the seeds tell."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fbp.commands.flags import Json
from fbp.commands.output import print_json


@dataclass(frozen=True)
class CompareCommand:
    """Say of every two runs which trained better, where the seeds tell."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN RUN [RUN ...]")]
    """Directories that `fbp sweep` wrote, of the same task, metric and data set."""
    json: Json = False

    def __call__(self) -> None:
        """Print the claims, and the rule by which they are made."""
        from fbp.report.claims import RULE, claims, entrant
        from fbp.report.comparison import contestants

        answers = claims([*map(entrant, contestants(self.runs))])
        if self.json:
            print_json({"rule": RULE, "claims": [c.facts() for c in answers]})
            return
        print("\n".join(map(str, answers)) or "Nothing can be compared: give runs of more seeds.")
        print(f"\n{RULE}")
