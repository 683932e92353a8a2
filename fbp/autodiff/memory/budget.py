"""Choose how a gradient is recomputed, by what the compiler says that it needs."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from fbp.autodiff import graph as g
from fbp.autodiff.avals import struct
from fbp.autodiff.edits.opened import Opened, value_and_cotangents
from fbp.autodiff.flat_function import FlatFunction
from fbp.autodiff.graph import Graph, hoist_consts
from fbp.autodiff.memory.estimate import peak, work
from fbp.autodiff.memory.schemes import Scheme, apply, schemes
from fbp.errors import InputError

MOST_COMPILED = 8
"""Programs: a search may take as long as so many compilations."""

WORTH_A_TRY = 1.1
"""Times the least guess of the candidates with less work: a guess above it is not compiled. Guesses
of one program's schemes are in the right order to about a tenth."""


class Candidate(NamedTuple):
    """A program to run, the scheme that made it, its work and a guess of its memory."""

    program: Opened
    scheme: Scheme
    work: float
    guess: int


class Measured(NamedTuple):
    """A candidate, and the bytes of temporary memory that the compiler says it needs."""

    candidate: Candidate
    temporary: int


def check_budget(memory: Any) -> None:
    """Raise if a budget is no number of bytes."""
    is_number = isinstance(memory, int | float) and not isinstance(memory, bool)
    if not (is_number and 0 < memory < float("inf")):
        raise InputError(f"memory is {memory!r}: give a number of bytes, as in 2**30")


@dataclass(frozen=True)
class Use:
    """How a program is used: the function whose it is, and whether the value is returned beside the
    cotangents. Where it is not, XLA schedules the rest otherwise: by 7 % in the memory of a small
    ResNet."""

    staged: FlatFunction
    returns_value: bool


def within(memory: float, program: Opened, use: Use) -> Opened:
    """Return a program whose value and cotangents need at most so many bytes of temporary memory,
    the one with the least work; InputError if there is none."""
    tried = []
    for measured in measure(program, use):
        if measured.temporary <= memory:
            return measured.candidate.program
        tried.append(measured)
    least = min(tried, key=lambda measured: measured.temporary)
    raise InputError(
        f"memory is {memory:,} bytes, and the least that was found is {least.temporary:,} bytes of "
        f"temporary memory ({least.candidate.scheme}): give that or more, or a smaller batch"
    )


def measure(program: Opened, use: Use) -> Iterator[Measured]:
    """Yield candidates in the order of their work, with what the compiler says that they need.

    Which they are does not depend on a budget, so that the first that fits has no less work for a
    smaller one. A candidate that costs more work and is guessed to save no memory is left out.
    """
    plain = _candidate(Scheme(), program, use)
    yield Measured(plain, _temporary(plain.program, use))
    others = [
        _candidate(scheme, program, use) for scheme in schemes(program.graph) if scheme != Scheme()
    ]
    worthwhile = [c for c in frontier([plain, *others]) if c is not plain]
    chosen = np.linspace(0, len(worthwhile) - 1, MOST_COMPILED - 1).round().astype(int)
    for i in dict.fromkeys(chosen.tolist()) if worthwhile else ():
        yield Measured(worthwhile[i], _temporary(worthwhile[i].program, use))


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that none clearly beats in both work and memory, in the order of their
    work."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.work, c.guess)):
        if candidate.guess < WORTH_A_TRY * min((c.guess for c in chosen), default=math.inf):
            chosen.append(candidate)
    return chosen


def _candidate(scheme: Scheme, program: Opened, use: Use) -> Candidate:
    recomputed = replace(program, graph=apply(scheme, program.graph))
    joint = _staged(recomputed, use)
    return Candidate(recomputed, scheme, work(joint), peak(joint))


def _staged(program: Opened, use: Use) -> Graph:
    run, avals = _closed(program, use)
    return g.stage(run, *avals)[0]


def _temporary(program: Opened, use: Use) -> int:
    run, avals = _closed(program, use)
    memory = jax.jit(run).lower(*avals).compile().memory_analysis()
    if memory is None:
        raise InputError("this compiler does not say how much memory a program needs")
    return memory.temp_size_in_bytes


def _closed(program: Opened, use: Use) -> tuple[Callable, list[Any]]:
    """Return a function of the program's constants and inputs, and their types: a constant that is
    a value of an outer trace cannot be compiled."""
    graph = program.graph
    num_consts = len(graph.constvars)

    def run(*args: Any) -> tuple[list[Any], list[Any]]:
        held = replace(graph, consts=args[:num_consts])
        inner = replace(program, graph=held)
        leaves = args[num_consts : len(args) - len(program.zeros)]
        staged = replace(use.staged, leaves=list(leaves), evaluated={})
        outs, cts = value_and_cotangents(inner, staged)
        return (outs if use.returns_value else outs[1:]), cts

    return run, [struct(v.aval) for v in hoist_consts(graph).invars]
