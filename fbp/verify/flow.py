"""Where the values of a program come from, through the loops, branches and calls in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.compat import scan_counts
from fbp.autodiff.graph import Atom, Graph, JaxprEqn
from fbp.verify.observe import Key, Site, bodies, site_of

Node = tuple[Key, Any]
"""A variable or literal, and the key of the equation whose program it is in."""


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop around an equation.

    Attributes:
      eqn: the loop.
      depth: how many numbers of a key lead to it.
      counter: the equation that makes the first value of the next state from that of this one,
        if there is one.
    """

    eqn: JaxprEqn
    depth: int
    counter: Key | None

    @property
    def of(self) -> int:
        """Return the identity of the user's loop: the loops that fbp makes of a while_loop, so as
        to run it backward in bounded memory, come from its line."""
        return id(self.eqn.source_info.traceback)


@dataclass(frozen=True, eq=False)
class Equation:
    """An equation, and the equations and the loops around it, from the outside."""

    site: Site
    around: tuple[JaxprEqn, ...] = ()
    loops: tuple[Loop, ...] = ()

    @property
    def eqn(self) -> JaxprEqn:
        """Return the equation."""
        return self.site.eqn

    @property
    def source(self) -> str:
        """Return the innermost line of the user's code: an equation of a library's function has
        none."""
        lines = [g.source(eqn) for eqn in (self.eqn, *reversed(self.around))]
        return next((line for line in lines if line), "")

    @property
    def backward(self) -> bool:
        """Return whether it belongs to the backward pass: of fbp's reverse mode, or of JAX's."""
        outer = (str(eqn.source_info.name_stack) for eqn in self.around)
        return is_backward(self.eqn) or any("transpose(" in stack for stack in outer)

    def time(self, iteration: Sequence[int]) -> tuple[int, ...]:
        """Return what orders two runs of equations as they were executed."""
        times: list[int] = []
        counters = {x.depth: (x, n) for x, n in zip(self.loops, iteration, strict=True)}
        for depth, number in enumerate(self.site.key, 1):
            times.append(number)
            if depth in counters:
                loop, n = counters[depth]
                times.append(-n if loop.eqn.params.get("reverse") else n)
        return tuple(times)

    @property
    def user_loops(self) -> list[tuple[int, Key | None]]:
        """Return, for each of the user's loops, the number of the innermost loop that fbp made of
        it, and what counts its iterations, where that is not the number of runs."""
        numbered: list[tuple[int, Key | None]] = []
        for i, loop in enumerate(self.loops):
            again = i > 0 and loop.of == self.loops[i - 1].of
            result = again or (loop.eqn.primitive is p.while_p and is_backward(loop.eqn))
            if again:
                numbered.pop()
            numbered.append((i, loop.counter if result else None))
        return numbered


@dataclass(frozen=True, eq=False)
class Flow:
    """A program's equations, and for each value what made it.

    Attributes:
      graph: the program.
      equations: them, by key, in the order in which they run.
      producers: for what an equation makes, its place and the number of the output.
      sources: for what a program within another gets or a call returns, where that comes from.
      consts: the values of constants.
    """

    graph: Graph
    equations: dict[Key, Equation] = field(default_factory=dict)
    producers: dict[Node, tuple[Equation, int]] = field(default_factory=dict)
    sources: dict[Node, list[Node]] = field(default_factory=dict)
    consts: dict[Node, Any] = field(default_factory=dict)

    @cached_property
    def forward_of(self) -> Mapping[int, JaxprEqn]:
        """Return, by the identity of its traceback, the equation that a user's line made: those of
        its backward pass carry the same. What vmap adds to reshape operands comes before it."""
        return {
            id(equation.eqn.source_info.traceback): equation.eqn
            for equation in self.equations.values()
            if not equation.backward
        }

    def forward(self, equation: Equation) -> JaxprEqn:
        """Return the equation of the forward pass that this one differentiates, or this one
        itself."""
        return self.forward_of.get(id(equation.eqn.source_info.traceback), equation.eqn)

    def operands(self, equation: Equation) -> list[Node]:
        """Return the values that an equation reads."""
        return [(_program(equation), a) for a in equation.eqn.invars]


def flow(graph: Graph) -> Flow:
    """Read a program."""
    result = Flow(graph)
    _read(result, graph, (), None)
    return result


def _read(result: Flow, graph: Graph, key: Key, around: Equation | None) -> None:
    """Add the equations of the program that lies at `key`."""
    result.consts.update(((key, v), x) for v, x in zip(graph.constvars, graph.consts, strict=True))
    for i, eqn in enumerate(graph.eqns):
        if around is None:
            equation = Equation(site_of(eqn, i, None))
        else:
            inside = replace(around.site, key=key)
            equation = Equation(site_of(eqn, i, inside), (*around.around, around.eqn), around.loops)
        result.equations[equation.site.key] = equation
        result.producers.update(((key, v), (equation, j)) for j, v in enumerate(eqn.outvars))
        for inside, body, _ in bodies(equation.site):
            looping = inside.loops > equation.site.loops
            loops = (*equation.loops, _loop(eqn, inside.key, body)) if looping else equation.loops
            within = Equation(inside, equation.around, loops)
            for to, come_from in _links(equation, key, inside.key, body):
                result.sources.setdefault(to, []).append(come_from)
            _read(result, body, inside.key, within)


def is_backward(eqn: JaxprEqn) -> bool:
    """Return whether an equation by itself belongs to a backward pass."""
    stack = str(eqn.source_info.name_stack)
    names = [name.split("(")[-1] for name in stack.replace(")", "/").split("/")]
    return eqn.primitive is p.add_jaxvals_p or "backward" in names or "transpose(" in stack


def _loop(eqn: JaxprEqn, key: Key, body: Graph) -> Loop:
    first = eqn.params.get("body_nconsts")
    counter = None
    if first is not None and body.outvars:
        counts = (i for i, e in enumerate(body.eqns) if body.outvars[0] in e.outvars)
        number = next(counts, None)
        if number is not None and body.invars[first] is body.eqns[number].invars[0]:
            counter = (*key, number)
    return Loop(eqn, len(key), counter)


def _links(equation: Equation, outer: Key, inner: Key, body: Graph) -> Iterator[tuple[Node, Node]]:
    """(value, where it comes from), into a program in an equation, round it, and out of it."""
    eqn, params = equation.eqn, equation.eqn.params
    outs: Sequence[Atom] = body.outvars
    ins: Sequence[Atom] = eqn.invars
    first, num_carry = 0, 0
    if eqn.primitive is p.scan_p:
        first, num_carry = scan_counts(params)
    elif eqn.primitive is p.while_p:
        ins = ins[params["cond_nconsts"] :]
        first, num_carry = params["body_nconsts"], len(outs)
    elif eqn.primitive is p.cond_p:
        ins = ins[1:]
    for v, a in zip(body.invars, ins, strict=True):
        yield (inner, v), (outer, a)
    for v, a in zip(body.invars[first:][:num_carry], outs, strict=False):
        yield (inner, v), (inner, a)
    for v, a in zip(eqn.outvars, outs, strict=True):
        yield (outer, v), (inner, a)


def _program(equation: Equation) -> Key:
    return equation.site.key[:-1]
