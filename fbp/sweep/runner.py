"""Run the trials of a sweep: compile once, and record how trials run."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fbp.hosts import gather_global, on_first_process, put_global
from fbp.records import add_to_environment, read_environment
from fbp.sweep.autotuning import autotune
from fbp.sweep.grid import Trial, grid_of
from fbp.sweep.parallelism import Parallelism, select_trials
from fbp.sweep.program import MonitoredState, Program, make_program
from fbp.sweep.study import Study
from fbp.train.objective import Metrics
from fbp.train.scan_steps import Examples


@dataclass
class Throughput:
    """Wall-clock seconds of a sweep's parts, and how many steps the trials made in them."""

    compiling: float = 0.0
    training: float = 0.0
    trial_steps: int = 0


class Runner:
    """Runs the trials of studies, which are named by their index.

    The parallelism of a study is chosen when it starts, and written into the environment of the
    run; where it is written already, that one is taken, over the present devices.

    Attributes:
      studies: all of them.
      directory: the run's.
      throughput: of what has been run so far.
    """

    def __init__(self, studies: Sequence[Study], directory: Path):
        self.studies = studies
        self.directory = directory
        self.speed = Throughput()
        self._programs: dict[tuple[int, int], Program] = {}
        self._compiled: dict[tuple[int, int, int], Any] = {}
        self._data: dict[Any, Examples] = {}

    def structure(self, study: int, trials: int) -> Any:
        """Return the states of a number of a study's trials, as shapes with their shardings."""
        chosen_study, program = self.studies[study], self._program(study, trials)
        test = chosen_study.problem.dataset.test
        grid = grid_of(chosen_study.trials[:trials])
        states, _ = jax.eval_shape(program.start, grid, (test.x, test.y))
        sharding = program.parallelism.trial_sharding
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), states
        )

    def start(self, study: int, trials: Sequence[Trial]) -> tuple[MonitoredState, Metrics]:
        """Return the states before the first step, and the validation metrics."""
        begin = time.perf_counter()
        program = self._program(study, len(trials))
        started = program.start(
            grid_of(trials), self._part(study, "validation", program.parallelism)
        )
        self.speed.compiling += time.perf_counter() - begin
        return started

    def advance(
        self, study: int, trials: Sequence[Trial], states: MonitoredState, start: int, stop: int
    ) -> tuple[MonitoredState, Any, Metrics]:
        """Train from step `start` to `stop`; return states, training losses and metrics."""
        begin = time.perf_counter()
        program, key = self._program(study, len(trials)), (study, len(trials), stop - start)
        data = [self._part(study, part, program.parallelism) for part in ("train", "validation")]
        arguments = (states, grid_of(trials), program.draw(start, stop - start), *data)
        if key not in self._compiled:
            self._compiled[key] = program.compile(*arguments)
        compiled = time.perf_counter()
        states, losses, metrics = jax.block_until_ready(self._compiled[key](*arguments))
        self.speed.compiling += compiled - begin
        self.speed.training += time.perf_counter() - compiled
        self.speed.trial_steps += (stop - start) * len(trials)
        return states, *jax.tree.map(gather_global, (losses, metrics))

    def select(self, study: int, states: MonitoredState, indices: Sequence[int]) -> MonitoredState:
        """Return the states of the trials at these indices."""
        return select_trials(states, indices, self._program(study, len(indices)).parallelism)

    def test(self, study: int, states: MonitoredState, indices: Sequence[int]) -> Metrics:
        """Measure the trials at these indices on the test set."""
        params = jax.tree.map(lambda leaf: leaf[np.array(indices)], states.train.params)
        program = self._program(study, len(indices))
        metrics = program.measure(params, self._part(study, "test", program.parallelism))
        return jax.tree.map(gather_global, metrics)

    def _program(self, study: int, trials: int) -> Program:
        if (study, trials) not in self._programs:
            chosen_study, parallelism = self.studies[study], self._parallelism(study).of(trials)
            self._programs[study, trials] = make_program(
                chosen_study.config, chosen_study.problem, parallelism
            )
        return self._programs[study, trials]

    def _parallelism(self, study: int) -> Parallelism:
        recorded_choices: Mapping[str, Any] = on_first_process(
            read_environment, self.directory
        ).get("trials", {})
        if str(study) not in recorded_choices:
            parallelism, speeds = autotune(self.studies[study])
            chosen = {**asdict(parallelism), "trial_steps_per_second": speeds}
            facts = {"trials": {**recorded_choices, str(study): chosen}}
            on_first_process(add_to_environment, self.directory, facts)
            return parallelism
        names = {field.name for field in fields(Parallelism)}
        recorded = {
            name: value for name, value in recorded_choices[str(study)].items() if name in names
        }
        return Parallelism(**recorded)

    def _part(self, study: int, part: str, parallelism: Parallelism) -> Examples:
        """Return a part of the data, on the devices; studies of the same data share it."""
        chosen_study = self.studies[study]
        key = (chosen_study.config.data, part, parallelism.devices)
        if key not in self._data:
            split = getattr(chosen_study.problem.dataset, part)
            self._data[key] = put_global((split.x, split.y), parallelism.replicated)
        return self._data[key]
