"""What a check knows so far: parts that stand by themselves."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fbp.errors import InputError
from fbp.verify.reference import first_line
from fbp.verify.report import Finding, LeafVerdict, Report, RuleSummary, ordered


class Interrupted(KeyboardInterrupt):
    """A check was interrupted; `report` holds what was checked until then."""

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

    def attempt(self, what: str, part: Callable[[], None]) -> None:
        """Do a part of the check; whatever goes wrong in it is said in a line."""
        try:
            part()
        except InputError:
            raise
        except Exception as error:  # what a part may raise depends on the user's program
            self.unchecked.append(f"could not check {what}: {first_line(error)}")

    def report(self) -> Report:
        """All of it."""
        return Report(
            subject=f"the gradient of {self.name}",
            leaves=tuple(self.leaves),
            findings=ordered(self.findings),
            checked=tuple(self.checked),
            rules=tuple(self.rules),
            unchecked=tuple(self.unchecked),
        )
