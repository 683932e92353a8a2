"""The whole table of rules: the families, merged."""

from fbp.autodiff.rule import Rules
from fbp.autodiff.rules import (
    calls,
    control,
    loops,
)

RULES = Rules(calls.RULES, control.RULES, loops.RULES)
