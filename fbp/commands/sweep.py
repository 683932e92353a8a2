"""`fbp sweep`: train at every rate of a config, and record it."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, Positional, arg

from fbp.commands.backend import compilation_cache, devices, profiled, use_every_core
from fbp.commands.divided import Division, run_divided, tell_complete, tell_outcome
from fbp.commands.flags import Json, Overwrite, Quiet, Settings
from fbp.commands.output import teller
from fbp.commands.processes import Processes, joined
from fbp.errors import InputError


@dataclass(frozen=True)
class SweepCommand:
    """Train a network at every learning rate of a config, and say which is best.

    Trials are divided over all devices; on a CPU, over as many as it has cores, unless
    XLA_FLAGS or JAX_NUM_CPU_DEVICES says otherwise. Compiled programs are kept in the user's
    cache directory, or in JAX_COMPILATION_CACHE_DIR. Many processes, on one host or on many,
    run one sweep if each is started with this command, in a directory that they share.
    """

    config: Annotated[Positional[Path], arg(metavar="CONFIG")]
    """TOML file, or the name of one that `fbp configs list` lists."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Directory of the run; runs/NAME if not given, with the config's name."""
    overwrite: Overwrite = False
    resume: FlagCreatePairsOff[bool] = False
    """Go on with the run in the directory where it was interrupted, or start it. Its records
    become those of a run that was not interrupted."""
    seeds: Annotated[int | None, arg(metavar="N")] = None
    """Number of seeds, in place of the config's; they are 0, 1, ..."""
    settings: Settings = ()
    """Set a key of the config, such as train.steps=100. May be given several times."""
    distributed: FlagCreatePairsOff[bool] = False
    """Join the processes that Slurm, Open MPI, GKE or a TPU pod has started."""
    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None
    """Join by hand: where the first process is. With --num-processes and --process-id."""
    num_processes: Annotated[int | None, arg(metavar="N")] = None
    """How many processes there are."""
    process_id: Annotated[int | None, arg(metavar="I")] = None
    """Number of this process, from 0."""
    part: Annotated[str | None, arg(metavar="I/N")] = None
    """Train part I of N alone, from 0; `auto/N` and `auto` ask a Slurm array, or `auto/N` a
    Kubernetes Indexed Job. The parts' processes share the directory; fbp merge makes it one run."""
    parts: Annotated[int | None, arg(metavar="N")] = None
    """Train N parts one after another, or as tasks of Ray, and merge them."""
    ray: FlagCreatePairsOff[bool] = False
    """Train the parts as tasks of Ray, as many as run at a time if --parts is not given; one whose
    process dies is started again."""
    task_cpus: Annotated[int, arg(metavar="N")] = 1
    """With --ray, cores of each task; also how many devices it has, without a GPU."""
    task_gpus: Annotated[float, arg(metavar="N")] = 0.0
    """With --ray, GPUs of each task; 0.25 lets four share one."""
    profile: Annotated[Path | None, arg(metavar="DIR")] = None
    """Write a trace of the sweep there, for TensorBoard or Perfetto."""
    json: Json = False
    quiet: Quiet = False

    def __call__(self) -> None:
        """Run the sweep, and print its progress and its outcome."""
        processes = Processes(
            self.distributed, self.coordinator, self.num_processes, self.process_id
        )
        division = Division(self.part, self.parts, self.ray, self.task_cpus, self.task_gpus)
        seeds = [] if self.seeds is None else [f"sweep.seeds = {self.seeds}"]
        if sys.stderr.isatty():  # the bar comes once there is something to count
            print(f"{self.config}: reading, checking the gradient", file=sys.stderr, flush=True)
        use_every_core()
        with joined(processes):
            from fbp.hosts import on_first_process
            from fbp.sweep.entry import is_done, source_of

            source = source_of(self.config, settings=[*self.settings, *seeds])
            directory = self.out or Path("runs") / source.config.name
            if division.is_asked:
                self._run_divided(division, source, directory)
                return
            if on_first_process(is_done, source, directory, self.resume, self.overwrite):
                on_first_process(tell_complete, directory, self.json)
            else:
                with profiled(self.profile):
                    summary = self._run(source, directory)
                on_first_process(tell_outcome, summary, directory, self.json, self.quiet)

    def _run_divided(self, division: Division, source: Any, directory: Path) -> None:
        if self.distributed or self.coordinator is not None or self.overwrite:
            raise InputError(
                "parts are of processes that never speak, in a directory that they share: leave "
                "out --distributed, --coordinator and --overwrite"
            )
        with profiled(self.profile):
            run_divided(division, source, directory, self.resume, self.json, self.quiet)

    def _run(self, source: Any, directory: Path) -> dict[str, Any]:
        from fbp.hosts import on_first_process
        from fbp.sweep.entry import run_in

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what it raises as well
        say = teller(self.json, self.quiet)

        def tell(studies: Any, check: Any) -> None:
            for note in studies[0].notes:
                on_first_process(say, f"note: {note}")
            on_first_process(lambda: say(f"device: {devices()}\ngradient: {check}"))

        with compilation_cache():
            try:
                return run_in(
                    source,
                    directory,
                    overwrite=self.overwrite,
                    tell=tell,
                    progress=not self.quiet,
                )
            except KeyboardInterrupt:
                print("\n--resume goes on where this run was interrupted", file=sys.stderr)
                raise
