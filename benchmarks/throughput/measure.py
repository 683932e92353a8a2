"""Every contender's speed on one work, turn by turn."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax

from benchmarks.throughput.contenders import CONTENDERS, Contender, Run
from benchmarks.throughput.work import Work


@dataclass(frozen=True)
class Speed:
    """What was measured of a contender.

    Attributes:
      contender: which one.
      cold: seconds of the first run, with compilation, imports left out.
      rates: trial-steps per second of the runs after that.
      note: what the run says of itself.
    """

    contender: Contender
    cold: float
    rates: tuple[float, ...]
    note: str

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)


@dataclass(frozen=True)
class Measured:
    """One work's speeds, the contenders that are not installed, and the load before and after."""

    work: Work
    speeds: tuple[Speed, ...]
    missing: tuple[str, ...]
    load: tuple[float, float]

    def best(self, *groups: str) -> Speed | None:
        """Return the fastest contender of these groups."""
        of_groups = (speed for speed in self.speeds if speed.contender.group in groups)
        return max(of_groups, key=lambda speed: speed.rate, default=None)


def measure(
    work: Work,
    repetitions: int,
    contenders: tuple[Contender, ...] = CONTENDERS,
    say: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Each contender once cold, then `repetitions` rounds in which each runs once."""
    load = os.getloadavg()[0]
    able = [
        contender
        for contender in contenders
        if work.kind in contender.kinds and jax.default_backend() in contender.platforms
    ]
    runs_of = {contender: contender.load() for contender in able}
    missing = tuple(contender.name for contender, make in runs_of.items() if make is None)
    runs: dict[Contender, Run] = {}
    cold: dict[Contender, float] = {}
    notes: dict[Contender, str] = {}
    for contender, make in runs_of.items():
        if make is not None:
            say(contender.name)
            begin = time.perf_counter()
            runs[contender] = make(work)
            note = runs[contender]()
            cold[contender] = time.perf_counter() - begin
            notes[contender] = note if isinstance(note, str) else ""
    rates: dict[Contender, list[float]] = {contender: [] for contender in runs}
    for repetition in range(repetitions):
        say(f"round {repetition + 1}")
        for contender, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds = time.perf_counter() - begin
            rates[contender].append(contender.trial_steps(work) / seconds)
    speeds = tuple(Speed(c, cold[c], tuple(rates[c]), notes[c]) for c in runs)
    return Measured(work, speeds, missing, (load, os.getloadavg()[0]))
