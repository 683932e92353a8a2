"""`fbp show`: watch a small network learn, on a page."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from fbp.commands.flags import Json, Open, Overwrite, Quiet, Seed, Settings
from fbp.commands.output import open_page, print_json, teller, warn
from fbp.errors import InputError, likeliest

if TYPE_CHECKING:
    from fbp.show import Lesson
    from fbp.show.record import Film

BUNDLED = ("xor", "moons")
PAGE = "index.html"


@dataclass(frozen=True)
class ShowCommand:
    """Train a small network and write a page on which it is seen to learn.

    The network as circles and edges, the signal going forward, the error coming back along every
    edge with the numbers that fbp computed, the weights changing, and the walk down the valley
    with three learning rates. The page is one file that needs no network.
    """

    lesson: Annotated[Positional[str], arg(metavar="LESSON")] = "xor"
    """xor, moons, or a config with an MLP of at most 60 edges: a TOML file, or a name of `fbp
    configs list`."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Directory of the page; runs/show_NAME if not given."""
    overwrite: Overwrite = False
    seed: Seed = 1
    rate: Annotated[float | None, arg(metavar="R")] = None
    """The learning rate."""
    settings: Settings = ()
    """Set a key of the config, such as network.widths=[3]. May be given several times."""
    json: Json = False
    quiet: Quiet = False
    open: Open = False

    def __call__(self) -> None:
        """Record the run, write the page, and say where it is."""
        from fbp.show import record, write_recording

        if self.rate is not None and not 0 < self.rate < float("inf"):
            raise InputError(f"--rate is {self.rate}: give a positive number")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed is {self.seed}: give a number from 0 to 2**32 - 1")
        lesson, name = self._lesson()
        page = (self.out or Path("runs") / f"show_{name}") / PAGE
        if page.exists() and not self.overwrite:
            raise InputError(f"{page} is there: give --overwrite, or another --out")
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--out {page.parent}: {error.strerror}") from None
        recording = record(lesson, self.seed)
        write_recording(page, recording)
        self._print(lesson, recording.film, page)
        if self.open:
            open_page(page)

    def _print(self, lesson: "Lesson", film: "Film", page: Path) -> None:
        say = teller(self.json, self.quiet)
        for note in lesson.notes:
            say(f"note: {note}")
        say(
            f"{lesson.name}: {'-'.join(map(str, lesson.widths))}, learning rate {lesson.rate:g}, "
            f"mean loss {film.losses[0]:.3g} -> {film.losses[-1]:.3g} in {film.steps[-1]} steps"
        )
        if film.diverged is not None:
            warn(f"the loss is not finite from step {film.diverged} on: give a smaller --rate")
        if self.json:
            print_json(
                {
                    "page": page,
                    "lesson": lesson.name,
                    "widths": lesson.widths,
                    "learning_rate": lesson.rate,
                    "seed": self.seed,
                    "steps": film.steps[-1],
                    "loss": [float(film.losses[0]), float(film.losses[-1])],
                    "diverged_at": film.diverged,
                }
            )
        else:
            print(f"page: {page}")

    def _lesson(self) -> tuple["Lesson", str]:
        from fbp.show import lesson_of, moons, xor

        if self.lesson in BUNDLED:
            if self.settings:
                raise InputError(f"--set goes with a config, and {self.lesson} is ready-made")
            lesson = {"xor": xor, "moons": moons}[self.lesson]()
            return replace(lesson, rate=self.rate or lesson.rate), self.lesson
        from fbp.config_file import config_of, read_tables
        from fbp.shipped import config_path, shipped_configs

        path, shipped = Path(self.lesson), shipped_configs()
        if path.suffix != ".toml" and not path.exists() and self.lesson not in shipped:
            hint = likeliest(self.lesson, [*BUNDLED, *shipped])
            raise InputError(
                f"{self.lesson} is no lesson: {hint}give xor, moons, a TOML file, or the name of "
                "one that fbp configs list lists"
            )
        config = config_of(read_tables(config_path(path), self.settings), self.lesson)
        return lesson_of(config, self.rate, self.seed), config.name
