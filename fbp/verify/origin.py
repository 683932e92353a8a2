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

from fbp.autodiff.avals import differentiable
from fbp.autodiff.graph import Literal
from fbp.verify.flags import Bad, Flags
from fbp.verify.flow import Flow, Node, Place
from fbp.verify.observe import Key, Seen

Start = tuple[Node, Bad]
CHOICES = frozenset({p.select_n_p, p.max_p, p.min_p, p.clamp_p})
"""What leaves out some of its operands' entries."""


@dataclass(frozen=True)
class Watched:
    """A program that was run, what was seen of its equations, and of its inputs."""

    flow: Flow
    records: Mapping[Key, Seen]
    inputs: Flags

    def record(self, place: Place) -> Flags | None:
        """What was seen of an equation; None if it was not measured or never ran."""
        seen = self.records.get(place.site.key)
        return seen.record if seen is not None and bool(seen.ran) else None

    def measures(self, place: Place) -> bool:
        """Whether an equation has a record."""
        return place.site.key in self.records


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
    place: Place | None
    out: int
    iteration: tuple[int, ...] = ()

    @property
    def is_input(self) -> bool:
        """Whether the program got them."""
        return self.place is None and self.out >= 0

    @property
    def time(self) -> tuple[int, ...]:
        """What orders births as they happened."""
        return () if self.place is None else self.place.time(self.iteration)


def births(watched: Watched, starts: Iterable[Start]) -> list[Birth]:
    """All births from which the given values may have become bad, in the order of time."""
    found: dict[tuple, Birth] = {}
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
            key = birth.place.site.key if birth.place else None
            found[key, birth.out, bad] = birth
    return sorted(found.values(), key=lambda birth: birth.time)


def causes(watched: Watched, birth: Birth) -> list[Birth]:
    """The births of what made this one bad: of the infinities in the operands that bore a NaN."""
    if birth.place is None:
        return []
    kinds = [Bad.NAN, Bad.INF] if birth.bad is Bad.NAN else [Bad.INF]
    starts = [(node, bad) for node in watched.flow.operands(birth.place) for bad in kinds]
    return [other for other in births(watched, starts) if other != birth]


def masking(watched: Watched, birth: Birth) -> Place | None:
    """The `where` whose backward gave the zero that made a NaN, if there is one: the way from
    the equation's zero operands to a select, within the backward pass."""
    if birth.place is None or birth.bad is not Bad.NAN:
        return None
    pending, known = list(watched.flow.operands(birth.place)), set()
    while pending:
        node = pending.pop()
        identity = (node[0], id(node[1]))
        if identity in known or isinstance(node[1], Literal):
            continue
        known.add(identity)
        made = watched.flow.made_by.get(node)
        if made is None:
            pending += watched.flow.sources.get(node, [])
            continue
        place, out = made
        if watched.measures(place):
            record = watched.record(place)
            if record is None or not record.zeros[out] > 0:
                continue
        if place.eqn.primitive is p.select_n_p and place.backward:
            chose = watched.flow.forward(place)
            return place if chose.primitive in CHOICES else None
        if node in watched.flow.sources:
            pending += watched.flow.sources[node]
        elif place.backward:
            pending += watched.flow.operands(place)
    return None


def results(watched: Watched) -> Iterator[list[Start]]:
    """For each result of the program, where the way back begins."""
    for atom in watched.flow.graph.outvars:
        yield [(((), atom), bad) for bad in Bad]


def _step(watched: Watched, node: Node, bad: Bad) -> tuple[Birth | None, list[Start]]:
    """One step back from a value: a birth, and where else its badness comes from."""
    key, atom = node
    if isinstance(atom, Literal):
        return _constant(atom.val, bad), []
    if node in watched.flow.consts:
        return _constant(watched.flow.consts[node], bad), []
    if node not in watched.flow.made_by:
        if key == () and atom in watched.flow.graph.invars:
            number = watched.flow.graph.invars.index(atom)
            has = watched.inputs.has(bad, number)
            return Birth(bad, None, number) if has else None, []
        return None, [(n, bad) for n in watched.flow.sources.get(node, [])]
    place, out = watched.flow.made_by[node]
    if not watched.measures(place):
        return None, [(n, bad) for n in _before(watched, node, place)]
    record = watched.record(place)
    if record is None or not record.has(bad, out):
        return None, []
    before = [(n, bad) for n in _before(watched, node, place)]
    if node in watched.flow.sources or not record.bears(bad, out):
        return None, before
    if bad is Bad.NAN:
        before += [(n, Bad.INF) for n, _ in before]
    return Birth(bad, place, out, record.first(bad)), before


def _before(watched: Watched, node: Node, place: Place) -> list[Node]:
    """Where an equation's output comes from: from within it, or from its operands."""
    inside = watched.flow.sources.get(node)
    return watched.flow.operands(place) if inside is None else inside


def _constant(value: Any, bad: Bad) -> Birth | None:
    if not differentiable(jax.typeof(value)):
        return None
    test = np.isnan if bad is Bad.NAN else np.isinf
    wide = np.asarray(value)
    wide = wide if wide.dtype.kind in "fc" else wide.astype(np.float32)
    return Birth(bad, None, -1) if test(wide).any() else None
