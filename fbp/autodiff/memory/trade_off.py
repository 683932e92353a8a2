"""What less memory costs: the programs that a budget chooses from, and what each computes again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jax.sharding import Sharding

from fbp.autodiff.edits.opened import opened
from fbp.autodiff.flat_function import flatten_function
from fbp.autodiff.memory.budget import Use, measure, staged_gradient
from fbp.autodiff.memory.estimate import work_by
from fbp.autodiff.table import RULES


@dataclass(frozen=True)
class Choice:
    """One way to compute a gradient.

    Attributes:
      temporary: bytes of temporary memory, as the compiler says.
      work: operations, over those of the gradient that computes nothing again.
      transferred: bytes that go to host memory, and those that come back.
      scheme: what is computed again, in words.
      again: by source line, the operations that are added to it, over those of the gradient.
    """

    temporary: int
    work: float
    transferred: float
    scheme: str
    again: dict[str, float]


def trade_off(
    loss: Callable[[Any], Any], params: Any, sharding: Sharding | None = None
) -> Iterator[Choice]:
    """Yield the ways to compute a loss and its gradient that `memory=` chooses from, in the order
    of their cost. The parameters may be shapes; the programs are compiled for the devices of a
    sharding, and not run.

    >>> import jax.numpy as jnp
    >>> [choice.scheme for choice in trade_off(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(3))]
    ['nothing is computed again']
    """
    staged = flatten_function(loss, (params,), False, RULES)
    program, use = opened(RULES, staged), Use(staged, True, sharding)
    plain = work_by(staged_gradient(program, use))
    total = sum(plain.values())
    for candidate, temporary in measure(program, use):
        lines = work_by(staged_gradient(candidate.program, use))
        added = {line: (lines[line] - plain.get(line, 0)) / total for line in lines}
        again = {line: share for line, share in added.items() if share > 0}
        ordered = dict(sorted(again.items(), key=lambda item: -item[1]))
        work = sum(lines.values()) / total
        yield Choice(temporary, work, candidate.transferred, str(candidate.scheme), ordered)
