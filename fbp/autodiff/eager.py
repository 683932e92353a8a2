"""Values for Python's control flow: a program that is evaluated while it is staged, on demand.

Outside of jit, Python may ask for a value of the function that is being staged: by `if`, `while`,
`float()`, `int()`, `item()` or `print`, or as an index. The equations so far are evaluated then,
each by its rule, and the forward pass goes on where they end. So the user's function runs once,
each equation does, and the program is the one that belongs to these values.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal, Var
from jax.extend.source_info_util import current_name_stack, set_name_stack

from fbp.autodiff.activity import perturbed_by
from fbp.autodiff.avals import differentiable
from fbp.autodiff.backprop import Evaluated, differentiate, run_known
from fbp.autodiff.compat import (
    MAKES,
    StagingTrace,
    Tracer,
    acts_outside,
    eval_trace,
    set_current_trace,
    trace_with_values,
)
from fbp.autodiff.graph import location
from fbp.autodiff.rule import Rules
from fbp.autodiff.undefined import UndefinedPrimal, is_undefined


class RecordedTrace:
    """A program while it is staged: which variables are perturbed, and their values on demand.

    Values are those of the trace `around` the program's own; there are none if it is None.
    """

    def __init__(
        self,
        rules: Rules,
        needs_ct: Sequence[bool],
        around: Any,
        inputs: Callable[[], Sequence[Any]],
        is_rule: bool = False,
    ):
        self.rules, self.needs_ct, self.around, self.inputs = rules, needs_ct, around, inputs
        self.is_rule = is_rule
        self.scopes = current_name_stack()
        self.reached: set[Var] = set()
        self.num_seen = 0
        self.makes_refs = False
        self.values: dict[Var, Any] = {}
        self.num_run = 0
        self.evaluated: dict[int, Evaluated] = {}

    def perturbed(self, trace: StagingTrace, atoms: Sequence[Any]) -> list[bool]:
        """Say which values depend differentiably on the inputs that need a cotangent; where there
        are mutable arrays, all are said to."""
        if not self.num_seen:
            inputs = zip(trace.frame.invars, self.needs_ct, strict=True)
            self.reached.update(v for v, want in inputs if want)
        for eqn in trace.equations(self.num_seen):
            self.num_seen += 1
            self.makes_refs |= eqn.primitive in MAKES
            if any(isinstance(v, Var) and v in self.reached for v in eqn.invars):
                self.reached.update(perturbed_by(self.rules, eqn, self.reached))
        return [isinstance(a, Var) and (self.makes_refs or a in self.reached) for a in atoms]

    def value(self, trace: StagingTrace, atom: Any) -> Any | None:
        """Return a value as it is in the trace around; None if there is none."""
        if self.around is None:
            return None
        x = self._read(trace, atom)
        return None if is_undefined(x) else x

    def operands(self, trace: StagingTrace, atoms: Sequence[Any]) -> Callable[[], list[Any]]:
        """Return a function that returns the values of some operands; of constants also when the
        trace has ended."""
        constants = {a: trace.frame.constvar_to_val.get(a) for a in atoms if isinstance(a, Var)}

        def values():
            known = (constants.get(a) if isinstance(a, Var) else a.val for a in atoms)
            return [
                self._read(trace, a) if x is None else x for a, x in zip(atoms, known, strict=True)
            ]

        return values

    def of_rule(
        self, primals: Callable[[], list[Any]], num_primals: int, tangents: Sequence[Any] = ()
    ) -> "RecordedTrace":
        """Return the recording of a program that a function with a rule holds: of these primals,
        and of tangents of these types, which have no value. It is run by its equation, so that what
        is evaluated here is for Python alone, and not traced by anything around."""

        def inputs():
            return [*map(_concrete, primals()), *map(UndefinedPrimal, tangents)]

        # A function applied to a tangent is linear in it, and its own rule is not used.
        needs_ct = [False] * (num_primals + len(tangents))
        around = None if self.around is None else eval_trace
        return RecordedTrace(self.rules, needs_ct, around, inputs, is_rule=True)

    def finish(self, trace: StagingTrace) -> None:
        """Evaluate the rest of a program whose values were asked for if it holds functions with
        rules: these may ask for values later, in derivatives of second order."""
        if self.values and trace.holds_rules:
            self._run(trace)

    def take_evaluated(self) -> dict[int, Evaluated]:
        """Return what ran, by the identity of the equation, and forget it: the equation of a
        function with a rule holds its recording."""
        evaluated, self.evaluated = self.evaluated, {}
        return evaluated

    def _read(self, trace: StagingTrace, atom: Any) -> Any:
        if isinstance(atom, Literal):
            return atom.val
        if atom in trace.frame.constvar_to_val:
            return self._outside(trace.frame.constvar_to_val[atom])
        if atom not in self.values and trace.is_open:
            self._run(trace)
        return self.values.get(atom)

    def _outside(self, x: Any) -> Any:
        """Return a constant as it is in the trace around."""
        return _concrete(x) if self.is_rule else x

    def _run(self, trace: StagingTrace) -> None:
        """Evaluate the equations that have not run."""
        eqns = trace.equations(self.num_run)
        if not eqns and self.values:
            return
        self.perturbed(trace, ())
        if not self.values:
            self.values.update(zip(trace.frame.invars, self.inputs(), strict=True))
        trace.is_open = False
        try:
            with set_current_trace(self.around), set_name_stack(self.scopes):
                for eqn in eqns:
                    done = self._evaluate(trace, eqn, [self._read(trace, a) for a in eqn.invars])
                    self.values.update(zip(eqn.outvars, done.outs, strict=True))
                    if not self.is_rule:
                        self.evaluated[id(eqn)] = done
                    self.num_run += 1
        finally:
            trace.is_open = True

    def _evaluate(self, trace: StagingTrace, eqn: JaxprEqn, ins: list[Any]) -> Evaluated:
        if self.makes_refs and not self.is_rule and acts_outside(trace, eqn):
            raise NotImplementedError(
                f"{eqn.primitive} has a side effect, at {location(eqn)}, in a function that makes "
                "a mutable array and whose values Python asks for: it would happen twice. Use "
                "jax.lax.cond instead of if, or carry the array's value without a reference."
            )
        has_out_ct = tuple(v in self.reached for v in eqn.outvars)
        if (
            self.is_rule
            or self.makes_refs
            or not any(has_out_ct)
            or eqn.primitive not in self.rules
        ):
            return Evaluated(eqn, run_known(self.rules, eqn, ins), None, has_out_ct)
        return Evaluated(eqn, *differentiate(self.rules, eqn, ins, self.reached), has_out_ct)


def _concrete(x: Any) -> Any:
    """Return the array behind a value, undefined if a transformation hides it."""
    value = x.to_concrete_value() if isinstance(x, Tracer) else x
    return UndefinedPrimal(x.aval) if value is None else value


def recorder(rules: Rules, leaves: Sequence[Any], with_values: bool) -> RecordedTrace:
    """Return the recording of a function of these leaves, which are values or types."""
    is_known = with_values and not any(isinstance(x, jax.ShapeDtypeStruct) for x in leaves)
    needs_ct = [differentiable(x) for x in leaves]
    around = trace_with_values() if is_known else None
    return RecordedTrace(rules, needs_ct, around, lambda: leaves)
