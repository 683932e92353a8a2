"""Rules as users write them: each wrong, after a published kind of fault, and its right twin."""

from benchmarks.written_rules import (
    attention,
    convolutions,
    forward_rules,
    implicit,
    indexing,
    kernels,
    losses,
    modules,
    norms,
    quantization,
    recurrent,
    transformed,
)
from benchmarks.written_rules.row import Case as Case
from benchmarks.written_rules.row import Row as Row

TOPICS = (
    *(losses, norms, attention, recurrent, quantization, implicit),
    *(indexing, convolutions, kernels, forward_rules, modules, transformed),
)
ROWS = tuple(x for topic in TOPICS for x in vars(topic).values() if isinstance(x, Row))
