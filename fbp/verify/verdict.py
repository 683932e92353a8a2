"""What is said of one operand of a custom rule."""

from dataclasses import dataclass

from fbp.verify.report import Kind


@dataclass(frozen=True)
class Verdict:
    """What is said of one operand: the kind of finding, and the entry that shows it."""

    kind: Kind
    reason: str
    entry: int | None = None
    expected: float | None = None
    got: float | None = None
