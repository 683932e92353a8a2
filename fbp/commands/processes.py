"""One command as many processes, on one host or on many."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fbp.errors import InputError

SHUTDOWN = 30  # seconds that a process waits at its end for the others to come to theirs


@dataclass(frozen=True)
class Processes:
    """Which processes run a command together.

    Attributes:
      distributed: as the cluster says, which JAX recognises: Slurm, Open MPI, GKE, a TPU pod.
      coordinator: host and port of the first process, where they are told by hand.
      count: how many there are.
      number: this one's, from 0.

    Raises InputError where that is too little, too much or impossible.

    >>> Processes(False, "node-0:1234", 2, 2)
    Traceback (most recent call last):
    ...
    fbp.errors.InputError: --process-id is 2: give a number from 0 to 1, there are 2 processes
    """

    distributed: bool
    coordinator: str | None
    count: int | None
    number: int | None

    def __post_init__(self):
        by_hand = (self.coordinator, self.count, self.number)
        if self.distributed and by_hand != (None, None, None):
            raise InputError(
                "--distributed finds the other processes by itself: leave out --coordinator, "
                "--num-processes and --process-id, or give all three without it"
            )
        if by_hand == (None, None, None):
            return
        if self.coordinator is None or self.count is None or self.number is None:
            raise InputError("give --coordinator, --num-processes and --process-id together")
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"--coordinator is {self.coordinator}: give HOST:PORT")
        if self.count < 1:
            raise InputError(f"--num-processes is {self.count}: give how many there are")
        if not 0 <= self.number < self.count:
            raise InputError(
                f"--process-id is {self.number}: give a number from 0 to {self.count - 1}, there "
                f"are {self.count} processes"
            )


@contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """Join this process to the others, if it is one of many. They end together, however they end.

    Raises InputError where no cluster is recognized, or the others do not come.
    """
    if not processes.distributed and processes.coordinator is None:
        yield
        return
    import jax

    try:
        jax.distributed.initialize(
            processes.coordinator,
            processes.count,
            processes.number,
            cluster_detection_method=None if processes.distributed else "deactivate",
            shutdown_timeout_seconds=SHUTDOWN,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes do not find each other ({_line(error)}): give --coordinator, "
            "--num-processes and --process-id, and start all of them"
        ) from error
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        print(
            f"fbp: a process of this run failed or cannot be reached ({_line(error)}): this one "
            "ends too; --resume goes on, with any number of processes",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # a regular end would wait for those that have failed


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
