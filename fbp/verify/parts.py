"""What a check knows so far: parts that stand by themselves."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fbp.errors import InputError
from fbp.verify.reference import first_line
from fbp.verify.report import Finding, LeafVerdict, Report, RuleSummary, ordered


class Interrupted(KeyboardInterrupt):
    """A check was interrupted; `report` holds what was checked until then.

    >>> print(Interrupted(Report("the gradient of f")).report)
    the gradient of f: right
    """

    def __init__(self, report: Report):
        self.report = report
        super().__init__("the check was interrupted")


@dataclass
class Parts:
    """What a check knows so far. Each part of it stands by itself: one that fails is said not to
    have been checked, and takes down no other."""

    name: str
    leaves: list[LeafVerdict] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    rules: list[RuleSummary] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    interrupted: Callable[[], bool] = lambda: False

    def attempt(self, what: str, part: Callable[[], None]) -> None:
        """Do a part of the check; whatever goes wrong in it is said in a line."""
        try:
            part()
        except InputError:
            raise
        except Exception as error:  # what a part may raise depends on the user's program
            self.unchecked.append(f"could not check {what}: {first_line(error)}")
        if self.interrupted():
            raise KeyboardInterrupt

    def report(self) -> Report:
        """Return all of it."""
        return Report(
            subject=f"the gradient of {self.name}",
            leaves=tuple(self.leaves),
            findings=ordered(self.findings),
            checked=tuple(self.checked),
            rules=tuple(self.rules),
            unchecked=tuple(self.unchecked),
        )


@contextmanager
def noticing_interrupts() -> Iterator[Callable[[], bool]]:
    """Note Ctrl-C beside what Python does with it: within a callback of the host it ends in an
    error of the device's runtime, which is no KeyboardInterrupt."""
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield lambda: False
        return
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, previous)
