"""Run the trials of a sweep: compile once, and record how trials run."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fbp.errors import InputError
from fbp.hosts import broadcast, gather_global, on_first_process, put_global
from fbp.records import ENVIRONMENT, add_to_environment, read_environment
from fbp.sweep.autotuning import FirstSteps, is_settled_by_training, likeliest_setting
from fbp.sweep.batches import BatchReader
from fbp.sweep.choice import IN_TURN, known_parallelism, measure_parallelism
from fbp.sweep.divergence import MonitoredState
from fbp.sweep.grid import Trial, grid_of
from fbp.sweep.parallelism import KINDS, Parallelism, select_trials, take_trials
from fbp.sweep.program import Program, make_program
from fbp.sweep.study import Study, measures_of_study
from fbp.train.objective import Metrics
from fbp.train.problem import Batches, Part


@dataclass
class Throughput:
    """Wall-clock seconds of a sweep's parts, and how many steps the trials made in them."""

    compiling: float = 0.0
    training: float = 0.0
    trial_steps: int = 0


class Runner:
    """Runs the trials of studies, which are named by their index.

    The parallelism of a study is chosen when it starts or after its first steps, and written into
    the environment of the run; where it is written already, that one is taken, over the present
    devices. Studies of one config and problem share their programs.

    Attributes:
      studies: all of them.
      directory: the run's.
      throughput: of what has been run so far.
      measures: what is measured.
      say: called with what is being done, such as `compiling`.
      started: the last validation metrics before the first step.
      latest: the last training losses and validation metrics.
      compiling: makes the context in which programs are compiled.
      asked: for how many studies a search has said the settings, where one says them as it goes.
    """

    def __init__(
        self,
        studies: Sequence[Study],
        directory: Path,
        compiling: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        self.studies = studies
        self.directory = directory
        self.throughput = Throughput()
        self.compiling = compiling
        self.asked = 0
        self._programs: dict[tuple[int, int, int], Program] = {}
        self._compiled: dict[tuple[int, int, int, int], Any] = {}
        self._data: dict[Any, Part] = {}
        self._readers: dict[int, BatchReader] = {}
        self._open: set[int] = set()
        self.started: Metrics = {}
        self.measures = measures_of_study(studies[0])
        self.say: Callable[[str], None] = lambda *_: None
        self.latest: tuple[Any, Metrics] | None = None

    def structure(self, variant: int, trials: int) -> Any:
        """Return the states of a number of a study's trials, as shapes with their shardings."""
        study, program = self.studies[variant], self._program(variant, trials)
        grid = grid_of(study.trials[:trials])
        states, _ = jax.eval_shape(program.start, grid, study.problem.parts["validation"])
        sharding = program.parallelism.trial_sharding
        shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        return jax.tree.map(shape, states)

    def start(self, variant: int, trials: Sequence[Trial]) -> tuple[MonitoredState, Metrics]:
        """Return the states before the first step, and the validation metrics."""
        begin = time.perf_counter()
        program = self._program(variant, len(trials))
        validation = self._part(variant, "validation", program.parallelism)
        with self.compiling():
            started = program.start(grid_of(trials), validation)
        self.throughput.compiling += time.perf_counter() - begin
        self.started = started[1]
        return started

    def may_begin_anew(self, variant: int) -> bool:
        """Return whether the next steps of a study are the first, which settle its parallelism."""
        return self._alike(variant) in self._open

    def advance(
        self, variant: int, trials: Sequence[Trial], states: MonitoredState, start: int, stop: int
    ) -> tuple[MonitoredState, Any, Metrics, Any]:
        """Train from step `start` to `stop`; return states, training losses, metrics and layers.

        After the first steps the parallelism is settled. Where another one is taken, all trials
        begin anew by it, so that every step of a run is made in one way.
        """
        before = replace(self.throughput)
        trained = self._advance(variant, trials, states, start, stop)
        if self.may_begin_anew(variant):
            self._open.remove(self._alike(variant))
            first = FirstSteps(
                self._program(variant, len(trials)).parallelism,
                stop - start,
                broadcast(self.throughput.training - before.training),
                broadcast(self.throughput.compiling - before.compiling),
                trained[0],
            )
            if self._settle(variant, first):
                spent = self.throughput.training - before.training
                self.throughput = replace(before, compiling=self.throughput.compiling + spent)
                trained = self._advance(
                    variant, trials, self.start(variant, trials)[0], start, stop
                )
        self.latest = trained[1:3]
        return trained

    def _settle(self, variant: int, first: FirstSteps) -> bool:
        """Choose the parallelism after the first steps; return whether it is another one."""
        begin, study = time.perf_counter(), self.studies[variant]
        chosen, speeds = measure_parallelism(study, self.say, first)
        self._record(variant, chosen, speeds)
        if chosen != first.parallelism:
            self._programs.pop(self._key(variant, len(study.trials)))
            self._compiled.clear()
        self.throughput.compiling += time.perf_counter() - begin
        return chosen != first.parallelism

    def _advance(
        self, variant: int, trials: Sequence[Trial], states: MonitoredState, start: int, stop: int
    ) -> tuple[MonitoredState, Any, Metrics, Any]:
        begin = time.perf_counter()
        program = self._program(variant, len(trials))
        key = (*self._key(variant, len(trials)), stop - start)
        training = self._training(variant, start, stop, program.parallelism)
        validation = self._part(variant, "validation", program.parallelism)
        orders = program.draw(start, stop - start)
        arguments = (states, grid_of(trials), orders, training, validation)
        if key not in self._compiled:
            self.say("compiling")
            with self.compiling():
                self._compiled[key] = program.compile(*arguments)
        self.say("")
        compiled = time.perf_counter()
        states, *measured = jax.block_until_ready(self._compiled[key](*arguments))
        self.throughput.compiling += compiled - begin
        self.throughput.training += time.perf_counter() - compiled
        self.throughput.trial_steps += (stop - start) * len(trials)
        losses, metrics, layers = jax.tree.map(gather_global, measured)
        return states, losses, metrics, layers

    def select(self, variant: int, states: Any, indices: Sequence[int]) -> MonitoredState:
        """Return the states of the trials at these indices."""
        return select_trials(states, indices, self._program(variant, len(indices)).parallelism)

    def test(self, variant: int, states: MonitoredState, indices: Sequence[int]) -> Metrics:
        """Measure the trials at these indices on the test set."""
        tested = take_trials(states.train, np.array(indices))
        program = self._program(variant, len(indices))
        metrics = program.measure(tested, self._part(variant, "test", program.parallelism))
        return jax.tree.map(gather_global, metrics)

    def _program(self, variant: int, trials: int) -> Program:
        key = self._key(variant, trials)
        if key not in self._programs:
            study = self.studies[variant]
            if study.parallelism is None:
                parallelism = self._parallelism(variant).of(trials)
            else:
                parallelism = study.parallelism.on_same_devices(trials)
            self._programs[key] = make_program(study, parallelism)
        return self._programs[key]

    def _key(self, variant: int, trials: int) -> tuple[int, int, int]:
        """Return what the program of a number of a study's trials is stored under."""
        study = self.studies[variant]
        return id(study.config), id(study.problem), trials

    def _alike(self, variant: int) -> int:
        """Return the first study of the same config, by which the parallelism is recorded."""
        config = self.studies[variant].config
        return next(i for i, other in enumerate(self.studies) if other.config is config)

    def _parallelism(self, variant: int) -> Parallelism:
        alike = self._alike(variant)
        choices = self._choices()
        if str(alike) in choices:
            return _recorded(choices[str(alike)], self.directory)
        study = self.studies[alike]
        known = known_parallelism(study, self.say)
        if known is None and is_settled_by_training(study):
            self._open.add(alike)
            return likeliest_setting(study)
        parallelism, speeds = known or measure_parallelism(study, self.say)
        self._record(variant, parallelism, speeds)
        return parallelism

    def _choices(self) -> Mapping[str, Any]:
        choices = on_first_process(read_environment, self.directory).get("trials", {})
        if not isinstance(choices, Mapping):
            _recorded(None, self.directory)
        return choices

    def _record(self, variant: int, parallelism: Parallelism, speeds: Mapping[str, float]) -> None:
        chosen = {**asdict(parallelism), "trial_steps_per_second": dict(speeds)}
        facts = {"trials": {**self._choices(), str(self._alike(variant)): chosen}}
        on_first_process(add_to_environment, self.directory, facts)

    def _training(self, variant: int, start: int, stop: int, parallelism: Parallelism) -> Part:
        """Return the training data of these steps: all arrays, or the batch of each step."""
        training = self.studies[variant].problem.parts["train"]
        if not isinstance(training, Batches):
            return self._part(variant, "train", parallelism)
        reader = self._readers.setdefault(variant, BatchReader(training))
        return put_global(reader.read(start, stop), parallelism.replicated)

    def _part(self, variant: int, part: str, parallelism: Parallelism) -> Part:
        """Return a part of the data, on the devices; studies of the same data share it."""
        problem = self.studies[variant].problem
        key = (id(problem.data), part, parallelism.devices)
        if key not in self._data:
            self._data[key] = put_global(problem.parts[part], parallelism.replicated)
        return self._data[key]


def _recorded(choice: Any, directory: Path) -> Parallelism:
    """Return the parallelism that an environment says; InputError where it says none."""
    types = {field.name: type(getattr(IN_TURN, field.name)) for field in fields(Parallelism)}
    known = choice if isinstance(choice, Mapping) else {}
    values = {name: known[name] for name in types if name in known}
    fits = values.get("kind") in KINDS and all(type(v) is types[n] for n, v in values.items())
    if not fits:
        raise InputError(
            f"{directory / ENVIRONMENT}: trials says no way to run them: bring back a copy, or run "
            "the sweep again, with --overwrite"
        )
    return Parallelism(**values)
