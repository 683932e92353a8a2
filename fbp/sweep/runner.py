"""The trials of a sweep, run: what is compiled is kept, and how trials run is recorded."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fbp.hosts import once, placed, whole
from fbp.records import add_to_environment, read_environment
from fbp.sweep.choice import choose
from fbp.sweep.cohort import Cohort
from fbp.sweep.grid import Trial, grid_of
from fbp.sweep.mapping import Mapping as Way
from fbp.sweep.mapping import selected
from fbp.sweep.program import Program, TrialState, make_program
from fbp.train.objective import Measures
from fbp.train.repeat import Examples


@dataclass
class Speed:
    """Wall-clock seconds of a sweep's parts, and how many steps the trials made in them."""

    compiling: float = 0.0
    training: float = 0.0
    trial_steps: int = 0


class Runner:
    """Runs the trials of cohorts, which are named by their place.

    The way in which a cohort's trials run is chosen when it starts, and written into the
    environment of the run; where it is written there already, it is that one, over the devices
    that are here.

    Attributes:
      cohorts: all of them.
      directory: the run's.
      speed: of what has been run until now.
    """

    def __init__(self, cohorts: Sequence[Cohort], directory: Path):
        self.cohorts = cohorts
        self.directory = directory
        self.speed = Speed()
        self._programs: dict[tuple[int, int], Program] = {}
        self._compiled: dict[tuple[int, int, int], Any] = {}
        self._data: dict[Any, Examples] = {}

    def structure(self, cohort: int, trials: int) -> Any:
        """The states of so many of a cohort's trials, as shapes that say where they are."""
        own, program = self.cohorts[cohort], self._program(cohort, trials)
        test = own.problem.dataset.test
        grid = grid_of(own.trials[:trials])
        states, _ = jax.eval_shape(program.start, grid, (test.x, test.y))
        place = program.how.over_trials
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), states
        )

    def start(self, cohort: int, trials: Sequence[Trial]) -> tuple[TrialState, Measures]:
        """The states before the first step, and the validation measures."""
        begin = time.perf_counter()
        program = self._program(cohort, len(trials))
        started = program.start(grid_of(trials), self._part(cohort, "validation", program.how))
        self.speed.compiling += time.perf_counter() - begin
        return started

    def advance(
        self, cohort: int, trials: Sequence[Trial], states: TrialState, start: int, stop: int
    ) -> tuple[TrialState, Any, Measures]:
        """The states after the steps from `start` to `stop`; training losses and measures."""
        begin = time.perf_counter()
        program, key = self._program(cohort, len(trials)), (cohort, len(trials), stop - start)
        data = [self._part(cohort, part, program.how) for part in ("train", "validation")]
        arguments = (states, grid_of(trials), program.draw(start, stop - start), *data)
        if key not in self._compiled:
            self._compiled[key] = program.compile(*arguments)
        compiled = time.perf_counter()
        states, losses, measures = jax.block_until_ready(self._compiled[key](*arguments))
        self.speed.compiling += compiled - begin
        self.speed.training += time.perf_counter() - compiled
        self.speed.trial_steps += (stop - start) * len(trials)
        return states, *jax.tree.map(whole, (losses, measures))

    def select(self, cohort: int, states: TrialState, places: Sequence[int]) -> TrialState:
        """The states of the trials in these places."""
        return selected(states, places, self._program(cohort, len(places)).how)

    def test(self, cohort: int, states: TrialState, places: Sequence[int]) -> Measures:
        """The measures of the test set, of the trials in these places."""
        params = jax.tree.map(lambda leaf: leaf[np.array(places)], states.train.params)
        program = self._program(cohort, len(places))
        measures = program.measure(params, self._part(cohort, "test", program.how))
        return jax.tree.map(whole, measures)

    def _program(self, cohort: int, trials: int) -> Program:
        if (cohort, trials) not in self._programs:
            own, way = self.cohorts[cohort], self._way(cohort).of(trials)
            self._programs[cohort, trials] = make_program(own.config, own.problem, way)
        return self._programs[cohort, trials]

    def _way(self, cohort: int) -> Way:
        ways: Mapping[str, Any] = once(read_environment, self.directory).get("trials", {})
        if str(cohort) not in ways:
            way, speeds = choose(self.cohorts[cohort])
            chosen = {**asdict(way), "trial_steps_per_second": speeds}
            facts = {"trials": {**ways, str(cohort): chosen}}
            once(add_to_environment, self.directory, facts)
            return way
        names = {field.name for field in fields(Way)}
        recorded = {name: value for name, value in ways[str(cohort)].items() if name in names}
        return Way(**recorded)

    def _part(self, cohort: int, part: str, way: Way) -> Examples:
        """A part of the data, on the devices; cohorts of the same data share it."""
        own = self.cohorts[cohort]
        key = (own.config.data, part, way.devices)
        if key not in self._data:
            split = getattr(own.problem.dataset, part)
            self._data[key] = placed((split.x, split.y), way.everywhere)
        return self._data[key]
