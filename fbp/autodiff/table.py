"""The whole table of rules: the families, merged."""

from fbp.autodiff.rule import Rules
from fbp.autodiff.rules import (
    calls,
    control,
    convolution,
    indexing,
    loops,
    products,
    shape,
    windows,
)

RULES = Rules(
    shape.RULES,
    indexing.RULES,
    products.RULES,
    convolution.RULES,
    windows.RULES,
    calls.RULES,
    control.RULES,
    loops.RULES,
)
