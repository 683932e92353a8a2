"""Cotangents on their way: what has arrived at each variable of a program that runs backward.

They are added as they arrive. That of a part of an array is added in place to that of the array; it
waits for one, as long as all that wait are together a small part.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from fbp.autodiff.avals import accumulate, sharded_like
from fbp.autodiff.graph import JaxprEqn, Var
from fbp.autodiff.interpret import eqn_scope
from fbp.autodiff.rule import (
    PART,
    AddingPullback,
    Cotangents,
    PartPullback,
    Pullback,
    adds_plainly,
)


class Arrived:
    """The cotangents of the active variables of one program, during one backward pass."""

    def __init__(self, active: set[Var]):
        self.active = active
        self.totals: dict[Var, Any] = {}
        self.parts: dict[Var, list[tuple[JaxprEqn, PartPullback, Any]]] = {}

    def add(self, atoms: Iterable[Any], cts: Cotangents) -> None:
        """Add cotangents, None for zero, to those of variables."""
        for v, ct in zip(atoms, cts, strict=True):
            if ct is not None and isinstance(v, Var) and v in self.active:
                ct = sharded_like(ct, v.aval)
                self.totals[v] = accumulate(self.totals[v], ct) if v in self.totals else ct
                self._add_parts(v)

    def take(self, v: Any) -> Any:
        """Remove and return the cotangent of a variable, None for zero."""
        self._add_parts(v)
        return self.totals.pop(v, None)

    def pull(self, eqn: JaxprEqn, pullback: Pullback, cts: Cotangents) -> Cotangents:
        """Return the cotangents of an equation's inputs, but for those that are added in place."""
        if isinstance(pullback, PartPullback) and self._waits(eqn.invars[0], cts[0]):
            x: Any = eqn.invars[0]
            if x in self.totals:
                self._add_part(x, pullback, cts[0])
            else:
                self.parts.setdefault(x, []).append((eqn, pullback, cts[0]))
            return [None for _ in eqn.invars]
        if isinstance(pullback, AddingPullback):
            return self._added(eqn.invars, pullback, cts)
        return pullback(cts)

    def _waits(self, x: Any, ct: Any) -> bool:
        """Test whether the cotangent of a part may wait for that of the array, or has one."""
        if not (isinstance(x, Var) and x in self.active and adds_plainly(x.aval, ct)):
            return False
        size = ct.size + sum(part.size for _, _, part in self.parts.get(x, ()))
        array: Any = x.aval
        return x in self.totals or PART * size <= array.size

    def _add_parts(self, v: Any) -> None:
        for eqn, pullback, part in self.parts.pop(v, ()):
            with eqn_scope(eqn, within="backward"):
                self._add_part(v, pullback, part)

    def _add_part(self, v: Var, pullback: PartPullback, part: Any) -> None:
        total = self.totals.get(v)
        added = None if total is None else pullback.add(total, part)
        if added is None:
            ct = pullback([part])[0]
            added = ct if total is None else accumulate(total, ct)
        self.totals[v] = added

    def _added(self, atoms: Sequence[Any], pullback: AddingPullback, cts: Cotangents) -> Cotangents:
        ins = [v if isinstance(v, Var) and v in self.totals else None for v in atoms]
        once = [v if v is not None and ins.index(v) == i else None for i, v in enumerate(ins)]
        totals = [None if v is None else self.totals[v] for v in once]
        result = pullback.add(cts, totals) if any(once) else None
        if result is None:
            return pullback(cts)
        in_cts, is_sum = result
        sums = zip(once, in_cts, is_sum, strict=True)
        self.totals.update((v, ct) for v, ct, replaces in sums if replaces and v is not None)
        return [None if replaces else ct for ct, replaces in zip(in_cts, is_sum, strict=True)]
