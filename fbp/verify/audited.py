"""What is known of one use of a custom rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from fbp.autodiff import user_rules
from fbp.verify.custom_rules import Tried
from fbp.verify.declared import Declaration, RuleName
from fbp.verify.rule_trial import Label, arrays_of
from fbp.verify.rule_use import alone
from fbp.verify.worst_entry import Row

Numbers = Mapping[Label, tuple[Row, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class Audited:
    """What is known of one use.

    Attributes:
      name: of its function.
      tried: the use and its trial.
      numbers: the worst entries by what they compare, each with its iteration.
      ins: the operands where the rule is farthest off; empty where nothing is open.
      cts: the cotangents that arrived there.
      iteration: the counters of the loops around, there.
    """

    name: RuleName
    tried: Tried
    numbers: Numbers
    ins: list[Any]
    cts: list[Any]
    iteration: tuple[int, ...]

    def row(self, check: str, number: int | None) -> Row:
        """Return the worst entry of a comparison."""
        return self.numbers[Label(check, number)][0]

    @property
    def num_consts(self) -> int:
        """Return how many of the operands are constants, which come before the arguments."""
        return user_rules.constants_before(self.tried.use.eqn)


def declaration(
    name: RuleName, operand: int | None, declared: Sequence[Declaration]
) -> Declaration | None:
    """Return what is declared of a rule, or of one of its operands."""
    return next((d for d in declared if d.matches(name, operand)), None)


def arrays_alone(one: Audited) -> dict[str, Any] | None:
    """Return what the rule states and what it should, as arrays, outside of the program around;
    None for a rule that does not run alone, as one with a collective."""
    assert one.tried.rule is not None

    def run(ins: list[Any], cts: list[Any]) -> dict[str, Any]:
        arrays = arrays_of(use, rule, ins, cts)
        return {k: v for k, v in arrays.items() if k != "unjudged"}

    try:
        use, rule = alone(one.tried.use, one.tried.rule)
        with jax.enable_x64(True):
            return jax.device_get(jax.jit(run)(one.ins, one.cts))
    except Exception:  # whatever an equation raises outside of its mesh
        return None
