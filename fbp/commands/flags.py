"""The flags that several commands have: each means the same everywhere.

`--out DIR`, too, is a directory everywhere; each command says what it writes there.
"""

from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, UseAppendAction, arg

Json = Annotated[
    FlagCreatePairsOff[bool],
    arg(help="Print the outcome as JSON, and nothing else on stdout."),
]
Quiet = Annotated[
    FlagCreatePairsOff[bool],
    arg(help="Print the outcome alone: no progress and no notes. Warnings stay, on stderr."),
]
Overwrite = Annotated[
    FlagCreatePairsOff[bool], arg(help="Replace what an earlier run of the command wrote there.")
]
Open = Annotated[FlagCreatePairsOff[bool], arg(help="Open the page in the browser.")]
Seed = Annotated[int, arg(metavar="N", help="What all that is random is drawn from.")]
Settings = Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="KEY=VALUE", name="set")]


def file_in(out: Path, name: str) -> Path:
    """Return the path of a command's one file in the directory `out`.

    A path that ends as the file does is that of the file itself.

    >>> file_in(Path("results"), "predictions.csv").as_posix()
    'results/predictions.csv'
    >>> file_in(Path("results/mine.csv"), "predictions.csv").as_posix()
    'results/mine.csv'
    """
    return out if out.suffix == Path(name).suffix else out / name
