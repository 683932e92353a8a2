"""Where numbers that are not finite were born: from what is bad in the results back to its causes.

The way back follows a kind of number, NaN or infinity, through the values that have it. A NaN
comes from a NaN in an operand or, where an equation bore it, from an infinity.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import primitives as p

from fbp.autodiff import RULES
from fbp.autodiff.avals import differentiable
from fbp.autodiff.graph import Literal
from fbp.verify.flags import Bad, Flags
from fbp.verify.flow import Equation, Flow, Node
from fbp.verify.observe import Key, Seen

Start = tuple[Node, Bad]
CHOICES = RULES.tagged("selects")
"""What leaves out some of its operands' entries."""


@dataclass(frozen=True)
class Watched:
    """A program that was run, what was seen of its equations, and of its inputs."""

    flow: Flow
    records: Mapping[Key, Seen]
    inputs: Flags

    def record(self, equation: Equation) -> Flags | None:
        """Return what was seen of an equation; None if it was not measured or never ran."""
        seen = self.records.get(equation.site.key)
        return seen.record if seen is not None and bool(seen.ran) else None

    def measures(self, equation: Equation) -> bool:
        """Return whether an equation has a record."""
        return equation.site.key in self.records


@dataclass(frozen=True)
class Birth:
    """Where numbers of a kind first appeared.

    Attributes:
      bad: the kind.
      place: the equation that made them; None for a constant and an input of the program.
      out: the number of its output, or of the input; -1 for a constant.
      iteration: the counters of the loops around, the first time.
    """

    bad: Bad
    equation: Equation | None
    out: int
    iteration: tuple[int, ...] = ()

    @property
    def is_input(self) -> bool:
        """Return whether the program got them."""
        return self.equation is None and self.out >= 0

    @property
    def time(self) -> tuple[int, ...]:
        """Return what orders births as they happened."""
        return () if self.equation is None else self.equation.time(self.iteration)


def births(watched: Watched, starts: Iterable[Start]) -> list[Birth]:
    """Return all births from which the given values may have become bad, in the order of time."""
    by_identity: dict[tuple, Birth] = {}
    pending, known = list(starts), set()
    while pending:
        node, bad = pending.pop()
        identity = (node[0], id(node[1]), bad)
        if identity in known:
            continue
        known.add(identity)
        birth, before = _step(watched, node, bad)
        pending += before
        if birth is not None:
            key = birth.equation.site.key if birth.equation else None
            by_identity[key, birth.out, bad] = birth
    return sorted(by_identity.values(), key=lambda birth: birth.time)


def causes(watched: Watched, birth: Birth) -> list[Birth]:
    """Return the births of what made this one bad: of the infinities in the operands that bore a
    NaN."""
    if birth.equation is None:
        return []
    kinds = [Bad.NAN, Bad.INF] if birth.bad is Bad.NAN else [Bad.INF]
    starts = [(node, bad) for node in watched.flow.operands(birth.equation) for bad in kinds]
    return [other for other in births(watched, starts) if other != birth]


def masking(watched: Watched, birth: Birth) -> Equation | None:
    """Return the `where` whose backward gave the zero that made a NaN, if there is one: the way
    from the equation's zero operands to a select, within the backward pass."""
    if birth.equation is None or birth.bad is not Bad.NAN:
        return None
    pending, known = list(watched.flow.operands(birth.equation)), set()
    while pending:
        node = pending.pop()
        identity = (node[0], id(node[1]))
        if identity in known or isinstance(node[1], Literal):
            continue
        known.add(identity)
        producer = watched.flow.producers.get(node)
        if producer is None:
            pending += watched.flow.sources.get(node, [])
            continue
        equation, out = producer
        if watched.measures(equation):
            record = watched.record(equation)
            if record is None or not record.zeros[out] > 0:
                continue
        if equation.eqn.primitive is p.select_n_p and equation.backward:
            chose = watched.flow.forward(equation)
            return equation if chose.primitive in CHOICES else None
        if node in watched.flow.sources:
            pending += watched.flow.sources[node]
        elif equation.backward:
            pending += watched.flow.operands(equation)
    return None


def results(watched: Watched) -> Iterator[list[Start]]:
    """Yield, for each result of the program, where the way back begins."""
    for atom in watched.flow.graph.outvars:
        yield [(((), atom), bad) for bad in Bad]


def _step(watched: Watched, node: Node, bad: Bad) -> tuple[Birth | None, list[Start]]:
    """Return one step back from a value: a birth, and where else its badness comes from."""
    key, atom = node
    if isinstance(atom, Literal):
        return _constant(atom.val, bad), []
    if node in watched.flow.consts:
        return _constant(watched.flow.consts[node], bad), []
    if node not in watched.flow.producers:
        if key == () and atom in watched.flow.graph.invars:
            number = watched.flow.graph.invars.index(atom)
            has = watched.inputs.has(bad, number)
            return Birth(bad, None, number) if has else None, []
        return None, [(n, bad) for n in watched.flow.sources.get(node, [])]
    equation, out = watched.flow.producers[node]
    if not watched.measures(equation):
        return None, [(n, bad) for n in _before(watched, node, equation)]
    record = watched.record(equation)
    if record is None or not record.has(bad, out):
        return None, []
    before = [(n, bad) for n in _before(watched, node, equation)]
    if node in watched.flow.sources or not record.bears(bad, out):
        return None, before
    if bad is Bad.NAN:
        before += [(n, Bad.INF) for n, _ in before]
    return Birth(bad, equation, out, record.first(bad)), before


def _before(watched: Watched, node: Node, equation: Equation) -> list[Node]:
    """Return where an equation's output comes from: from within it, or from its operands."""
    inside = watched.flow.sources.get(node)
    return watched.flow.operands(equation) if inside is None else inside


def _constant(value: Any, bad: Bad) -> Birth | None:
    if not differentiable(jax.typeof(value)):
        return None
    test = np.isnan if bad is Bad.NAN else np.isinf
    wide = np.asarray(value)
    wide = wide if wide.dtype.kind in "fc" else wide.astype(np.float32)
    return Birth(bad, None, -1) if test(wide).any() else None
