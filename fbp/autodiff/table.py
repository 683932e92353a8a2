"""The whole table of rules: the families, merged."""

from fbp.autodiff.rule import Rules
from fbp.autodiff.rules import (
    calls,
    constants,
    control,
    convolution,
    custom,
    effects,
    elementwise,
    indexing,
    loops,
    ordering,
    placement,
    products,
    reductions,
    remat,
    shape,
    while_loop,
    windows,
)

RULES = Rules(
    elementwise.RULES,
    reductions.RULES,
    ordering.RULES,
    shape.RULES,
    indexing.RULES,
    products.RULES,
    convolution.RULES,
    windows.RULES,
    placement.RULES,
    calls.RULES,
    remat.RULES,
    effects.RULES,
    custom.RULES,
    control.RULES,
    loops.RULES,
    while_loop.RULES,
    constants.RULES,
)
