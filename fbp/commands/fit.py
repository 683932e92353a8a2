"""`fbp fit`: a trained network from the data alone."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg


@dataclass(frozen=True)
class FitCommand:
    """Train a network on your data, with nothing to tune.

    Writes a directory with the model, fit.json and report.html.
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """A table (.csv, .tsv, .txt, .data, also with .gz; .parquet, .xlsx); an .npz file of x and y; a
    directory of IDX files, as MNIST's; or one with a folder of PNG, JPEG or WAV files for each
    class."""
    target: Annotated[str | None, arg(metavar="COLUMN")] = None
    """The column of the table to predict."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Directory to write; runs/fit-NAME if not given, with the data's name."""
    task: Literal["classification", "regression", "classes", "numbers"] | None = None
    """What to predict, in place of what the target looks like."""
    seed: int = 0
    """What all that is random is drawn from."""
    overwrite: FlagCreatePairsOff[bool] = False
    """Replace the fit that is in the directory."""

    def __call__(self) -> None:
        """Fit, write the directory, and print the verdict."""
        from fbp.commands.backend import compilation_cache
        from fbp.fit import fit
        from fbp.fit.directory import check_free, write
        from fbp.fit.sources import read_labeled
        from fbp.report import needs_matplotlib

        with needs_matplotlib("the report"):
            import matplotlib  # noqa: F401
        out = self.out or Path("runs") / f"fit-{self.data.name.split('.')[0]}"
        check_free(out, self.overwrite)
        examples = read_labeled(self.data, self.target)
        with compilation_cache():
            fitted = fit(
                examples.x,
                examples.y,
                task=self.task,
                test=0.2 if examples.test is None else examples.test,
                seed=self.seed,
                target_name=examples.target,
                progress=True,
            )
        page = write(out, fitted, shlex.join(["fbp", "predict", str(out), str(self.data)]))
        print(fitted.story.verdict)
        for note in fitted.story.notes:
            print(f"note: {note}")
        print(f"report: {page}")
