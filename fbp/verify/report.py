"""What a check found: a verdict, and findings that say where and what to do."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum

Number = float | complex


class Kind(StrEnum):
    """What a finding is about. The first nine make a check fail, the others are said only.

    >>> Kind.WRONG_GRADIENT.fails, Kind.KINK.fails
    (True, False)
    """

    WRONG_GRADIENT = "wrong gradient"
    """A leaf's gradient differs from the reference by more than the error bar."""
    STRUCTURE = "wrong structure"
    """The gradient has another structure, shape or dtype than its argument."""
    WRONG_VALUE = "wrong value"
    """The function's value differs from that of the second implementation."""
    NOT_REPEATABLE = "differs from call to call"
    """The gradient is another one when it is computed again."""
    WRONG_RULE = "wrong rule"
    """The rule of one equation gives its operand a wrong cotangent."""
    WRONG_CUSTOM_RULE = "wrong custom rule"
    """A custom_vjp or custom_jvp rule differs from the derivative of its own function."""
    TRANSFORM = "transform"
    """The gradient changes under vmap, scan or a second differentiation."""
    NON_FINITE = "non-finite"
    """NaN or infinity, or a gradient that an overflow made zero."""
    JUMP = "jump"
    """The function's value jumps here: there is no derivative to compare with."""
    DECLARED = "declared"
    """A rule that differs from the derivative, as the user declared."""
    KINK = "kink"
    """A kink: the gradient lies between the slopes on both sides."""
    ZERO = "zero gradient"
    """A leaf whose gradient is zero in every entry, and should be."""
    UNRESOLVED = "unresolved"
    """Something could not be compared; the message says what."""
    NOTE = "note"
    """What was checked, where that is not plain."""

    @property
    def fails(self) -> bool:
        """Return whether a check with such a finding fails."""
        return self in FAILURES


FAILURES = frozenset(
    {
        Kind.WRONG_GRADIENT,
        Kind.STRUCTURE,
        Kind.WRONG_VALUE,
        Kind.NOT_REPEATABLE,
        Kind.WRONG_RULE,
        Kind.WRONG_CUSTOM_RULE,
        Kind.TRANSFORM,
        Kind.NON_FINITE,
        Kind.JUMP,
    }
)


@dataclass(frozen=True)
class Finding:
    """One thing that a check found, and where.

    Attributes:
      kind: what it is about.
      message: what happened and what to do, in a sentence or two.
      leaf: path of the argument's leaf, as "args[0]['w']".
      index: the entry in that leaf, or in the equation's operand, where it shows most.
      expected: the entry that the reference has there.
      got: the entry that was found.
      error_ulps: their distance, in units of the spacing at the largest entry of the leaf.
      equation: the equation, as its program prints it.
      primitive: the equation's primitive.
      operand: the number of the operand whose cotangent, or whose value, it is.
      iteration: the counters of the loops around, from the outside.
      source: `file:line (function)` of the code that made the equation.

    >>> print(Finding(Kind.WRONG_GRADIENT, "it differs.", leaf="args[0]", index=(2,), got=0.5))
    wrong gradient: it differs.
      leaf       args[0][2]
      expected   nothing
      got        0.5
    """

    kind: Kind
    message: str
    leaf: str | None = None
    index: tuple[int, ...] | None = None
    expected: Number | None = None
    got: Number | None = None
    error_ulps: float | None = None
    equation: str | None = None
    primitive: str | None = None
    operand: int | None = None
    iteration: tuple[int, ...] = ()
    source: str | None = None

    def __str__(self) -> str:
        lines = [f"  {name:<10} {text}" for name, text in self.details()]
        return "\n".join([f"{self.kind}: {self.message}", *lines])

    def details(self) -> list[tuple[str, str]]:
        """Return what is known beside the message: names and texts, in the order of reading."""
        details = []
        if self.leaf is not None:
            details.append(("leaf", f"{self.leaf}{entry(self.index)}"))
        if self.expected is not None or self.got is not None:
            ulps = "" if self.error_ulps is None else f"   ({self.error_ulps:.3g} ULPs)"
            details.append(("expected", nine_digits(self.expected)))
            details.append(("got", f"{nine_digits(self.got)}{ulps}"))
        if self.equation is not None:
            details.append(("equation", self.equation))
        if self.operand is not None:
            where = f", entry {entry(self.index)}" if self.index and self.leaf is None else ""
            details.append(("operand", f"{self.operand}{where}"))
        if self.iteration:
            details.append(("iteration", ", ".join(map(str, self.iteration))))
        if self.source is not None:
            details.append(("at", self.source))
        return details


@dataclass(frozen=True)
class LeafVerdict:
    """One leaf of the gradient beside its reference.

    Attributes:
      leaf: its path.
      ok: whether every entry lies within the error bar.
      max_ulps: the largest error, in units of the spacing at the leaf's largest entry.
      bar_ulps: the error bar, in the same units.
      index: where the largest error lies.
      expected: the entry that the reference has there.
      got: the entry that was found.
      reference: what the leaf was compared with.
      resolved: whether the error bar leaves any digits; if not, nothing is said to be right.

    >>> print(LeafVerdict("args[0]", True, 0.5, 16.0, (1,), 0.25, 0.25, "jax.grad in float64"))
    ok    args[0]: 0.5 ULPs of 16 allowed, at [1] (expected 0.25, got 0.25)
    """

    leaf: str
    ok: bool
    max_ulps: float
    bar_ulps: float
    index: tuple[int, ...]
    expected: Number
    got: Number
    reference: str
    resolved: bool = True

    def finding(self, kind: Kind, message: str) -> Finding:
        """Return the verdict as a finding."""
        return Finding(
            kind,
            message,
            leaf=self.leaf,
            index=self.index,
            expected=self.expected,
            got=self.got,
            error_ulps=self.max_ulps,
        )

    def __str__(self) -> str:
        mark = ("ok   " if self.resolved else "?    ") if self.ok else "WRONG"
        return (
            f"{mark} {self.leaf}: {self.max_ulps:.3g} ULPs of {self.bar_ulps:.3g} allowed, at "
            f"{entry(self.index) or 'the only entry'} (expected {nine_digits(self.expected)}, "
            f"got {nine_digits(self.got)})"
        )


@dataclass(frozen=True)
class RuleSummary:
    """A custom rule of the function, and how far it was compared.

    Attributes:
      name: the function that has it, and where it is written.
      compared: at how many places of the program it was compared.
      not_run: at how many it was not, since they lie in a branch that was not taken.
      used: whether the gradient uses it at all.
      unjudged: why it could not be judged, where it could not.
      second_derivative: why the derivative of the rule was not compared; empty if it was.

    >>> print(RuleSummary("clip at losses.py:3", compared=2, not_run=1))
    rule of clip at losses.py:3: compared at 2 sites, 1 did not run
    """

    name: str
    compared: int = 0
    not_run: int = 0
    used: bool = True
    unjudged: tuple[str, ...] = ()
    second_derivative: str = ""

    def __str__(self) -> str:
        if not self.used:
            return f"rule of {self.name}: takes no part in the gradient"
        parts = [f"compared at {self.compared} site{'s' * (self.compared != 1)}"]
        if self.not_run:
            parts.append(f"{self.not_run} did not run")
        if self.unjudged:
            parts.append(f"NOT JUDGED: {'; '.join(self.unjudged)}")
        if self.second_derivative:
            parts.append(f"its own derivative was not compared ({self.second_derivative[:120]})")
        return f"rule of {self.name}: {', '.join(parts)}"


@dataclass(frozen=True)
class Report:
    """What was checked, the verdict on each leaf, and the findings, the gravest first.

    Attributes:
      subject: what was checked.
      leaves: one verdict per leaf of the gradient.
      findings: what was found.
      checked: what else was compared, in words.
      rules: the custom rules of the function, and how far each was compared.
      unchecked: what could not be checked, and why.
      command: how to get the report again from the command line, if it comes from there.

    >>> Report("the gradient of f", unchecked=("could not check under vmap: no rule",)).verdict
    'right, but could not check under vmap'
    """

    subject: str
    leaves: tuple[LeafVerdict, ...] = ()
    findings: tuple[Finding, ...] = ()
    checked: tuple[str, ...] = field(default=())
    rules: tuple[RuleSummary, ...] = ()
    unchecked: tuple[str, ...] = ()
    command: str = ""

    @property
    def ok(self) -> bool:
        """Return whether nothing wrong was found."""
        return not self.failures and all(leaf.ok for leaf in self.leaves)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """Return the findings that say something is wrong."""
        return tuple(f for f in self.findings if f.kind.fails)

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Return what is neither right nor wrong: leaves without digits, and rules without a
        verdict."""
        leaves = [f"{leaf.leaf} is unresolved" for leaf in self.leaves if not leaf.resolved]
        rules = [rule.name.split(" at ")[0] for rule in self.rules if rule.unjudged]
        judged = f"the rule{'s' * (len(rules) > 1)} of {', '.join(rules)} could not be judged"
        return (*leaves, *([judged] if rules else []))

    @property
    def verdict(self) -> str:
        """Return the first line's last words: 'right', 'WRONG', or what is open."""
        if not self.ok:
            return "WRONG"
        if any(not leaf.resolved for leaf in self.leaves):
            return f"unresolved: {'; '.join(self.unresolved)}"
        open_ = [*self.unresolved, *(f"{x.split(':')[0]}" for x in self.unchecked)]
        return f"right, but {'; '.join(open_)}" if open_ else "right"

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.subject}: {self.verdict}",
                *(f"  {leaf}" for leaf in self.leaves),
                *(f"  also compared: {x}" for x in self.checked),
                *(f"  {x}" for x in self.rules),
                *(f"  {x}" for x in self.unchecked),
                *([f"  again: {self.command}"] if self.command else []),
                *("\n" + str(finding) for finding in self.findings),
            ]
        )

    def __repr__(self) -> str:
        count = f"{len(self.findings)} finding{'s' * (len(self.findings) != 1)}"
        return f"<Report: {self.subject}: {self.verdict}; {count}>"

    def _repr_html_(self) -> str | None:
        """Return the report as a notebook shows it; None, for its text, without Jinja2."""
        from fbp.errors import InputError
        from fbp.verify.page import fragment

        try:
            return fragment(self)
        except InputError:
            return None

    def to_json(self) -> str:
        """Return the report as JSON; a complex number is [real, imaginary], NaN and infinity
        strings."""
        return json.dumps(_plain(asdict(self) | {"ok": self.ok}), indent=2)


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return what fails first, then in the order of their kinds; as found within a kind."""
    kinds = list(Kind)
    return tuple(sorted(findings, key=lambda f: kinds.index(f.kind)))


def entry(index: tuple[int, ...] | None) -> str:
    """Return an index as it stands behind a name; nothing for that of a scalar."""
    return "" if not index else f"[{', '.join(map(str, index))}]"


def nine_digits(x: Number | None) -> str:
    """Return an entry in nine digits."""
    return "nothing" if x is None else f"{x:.9g}"


def _plain(x: object) -> object:
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    if isinstance(x, complex):
        return [_plain(x.real), _plain(x.imag)]
    if isinstance(x, float) and (x != x or abs(x) == float("inf")):
        return str(x)
    return x
