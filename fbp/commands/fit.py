"""`fbp fit`: a trained network from the data alone."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from fbp.commands.flags import Json, Open, Overwrite, Quiet, Seed
from fbp.commands.output import open_page, print_json, teller

if TYPE_CHECKING:
    from fbp.automl.fitted import Fitted


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
    seed: Seed = 0
    overwrite: Overwrite = False
    json: Json = False
    quiet: Quiet = False
    open: Open = False

    def __call__(self) -> None:
        """Fit, write the directory, and print the verdict."""
        import matplotlib  # noqa: F401 - it draws the page: without it nothing is trained

        from fbp.automl import fit
        from fbp.automl.directory import check_free, write
        from fbp.automl.sources import read_labeled
        from fbp.commands.backend import compilation_cache

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
                progress=not self.quiet,
            )
        page = write(out, fitted, shlex.join(["fbp", "predict", str(out), str(self.data)]))
        self._print(fitted, page)
        if self.open:
            open_page(page)

    def _print(self, fitted: "Fitted", page: Path) -> None:
        from fbp.automl.store import story_as_data

        story = fitted.story
        if self.json:
            print_json({"verdict": story.verdict, "report": page, **story_as_data(story)})
            return
        print(story.verdict)
        say = teller(self.json, self.quiet)
        for note in story.notes:
            say(f"note: {note}")
        print(f"report: {page}")
