"""Choose how a gradient is recomputed, by what the compiler says that it needs."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding

from fbp.autodiff import graph as g
from fbp.autodiff.edits.opened import Opened, value_and_cotangents
from fbp.autodiff.flat_function import FlatFunction
from fbp.autodiff.graph import Graph, hoist_consts
from fbp.autodiff.inline import inlined
from fbp.autodiff.memory.estimate import peak, transferred, work
from fbp.autodiff.memory.schemes import Scheme, apply, schemes
from fbp.errors import InputError

MOST_COMPILED = 8
"""Programs: a search may take as long as so many compilations."""

WORTH_A_TRY = 1.1
"""Times the least guess of the candidates that cost less: a guess above it is not compiled. Guesses
of one program's schemes are in the right order to about a tenth."""


OPERATIONS_PER_BYTE = 1e4
"""What a byte that is moved to host memory or back costs in time. A TPU v5e does 2e14 operations a
second, while 1.5e10 bytes pass between it and its host (How to Scale Your Model, chapter 2). The
two go on side by side, so that it is the most that moving can cost: computing again comes first."""


class Candidate(NamedTuple):
    """A program to run, the scheme that made it, its work, bytes moved to host memory and back, and
    a guess of its memory."""

    program: Opened
    scheme: Scheme
    work: float
    transferred: float
    guess: int

    @property
    def cost(self) -> float:
        """In operations."""
        return self.work + OPERATIONS_PER_BYTE * self.transferred


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
    ResNet. It is compiled for the devices of a sharding, if not for those here."""

    staged: FlatFunction
    returns_value: bool
    sharding: Sharding | None = None

    @property
    def has_host_memory(self) -> bool:
        """Whether the devices' memory is another than the host's."""
        devices = jax.devices() if self.sharding is None else self.sharding.device_set
        return all(device.platform != "cpu" for device in devices)


def within(memory: float, program: Opened, use: Use) -> Opened:
    """Return a program whose value and cotangents need at most so many bytes of temporary memory,
    the one with the least work; InputError if there is none.

    What the compiler said is remembered: a loss is traced several times on its way into a step.
    """
    known = REMEMBERED.setdefault(_fingerprint(program, use), {})
    for scheme, temporary in known.items():
        if temporary <= memory:
            return _recomputed(program, scheme)
    for measured in measure(program, use, known):
        if measured.temporary <= memory:
            return measured.candidate.program
    scheme, least = min(known.items(), key=lambda item: item[1])
    raise InputError(
        f"memory is {memory:,} bytes, and the least that was found is {least:,} bytes of "
        f"temporary memory ({scheme}): give that or more, or a smaller batch"
    )


REMEMBERED: dict[str, dict[Scheme, int]] = {}
"""By the fingerprint of a program, the bytes of its schemes in the order of their cost."""


def _fingerprint(program: Opened, use: Use) -> str:
    """Return what tells programs apart: the plain gradient as it is compiled, and the equations
    that schemes divide."""
    run, avals = _closed(program, use)
    text = jax.jit(run).lower(*avals).as_text()
    eqns = [(eqn.primitive.name, *eqn.outvars) for eqn in inlined(program.graph).eqns]
    types = str([(name, *(str(v.aval) for v in outs)) for name, *outs in eqns])
    return hashlib.sha256(f"{jax.default_backend()} {types} {text}".encode()).hexdigest()


def measure(
    program: Opened, use: Use, known: dict[Scheme, int] | None = None
) -> Iterator[Measured]:
    """Yield candidates in the order of their cost, with what the compiler says that they need, and
    enter that into `known`.

    Which they are does not depend on a budget, so that the first that fits costs no less for a
    smaller one. A candidate that costs more and is guessed to save no memory is left out.
    """
    known = {} if known is None else known
    plain = _candidate(Scheme(), program, use)
    yield _measured(plain, use, known)
    others = [
        _candidate(scheme, program, use)
        for scheme in schemes(program.graph, use.has_host_memory)
        if scheme != Scheme()
    ]
    worthwhile = [c for c in frontier([plain, *others]) if c is not plain]
    chosen = np.linspace(0, len(worthwhile) - 1, MOST_COMPILED - 1).round().astype(int)
    for i in dict.fromkeys(chosen.tolist()) if worthwhile else ():
        yield _measured(worthwhile[i], use, known)


def _measured(candidate: Candidate, use: Use, known: dict[Scheme, int]) -> Measured:
    if candidate.scheme not in known:
        known[candidate.scheme] = _temporary(candidate.program, use)
    return Measured(candidate, known[candidate.scheme])


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that none clearly beats in both cost and memory, in the order of their
    cost."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.cost, c.guess)):
        if candidate.guess < WORTH_A_TRY * min((c.guess for c in chosen), default=math.inf):
            chosen.append(candidate)
    return chosen


def _candidate(scheme: Scheme, program: Opened, use: Use) -> Candidate:
    recomputed = _recomputed(program, scheme)
    joint = staged_gradient(recomputed, use)
    return Candidate(recomputed, scheme, work(joint), transferred(joint), peak(joint))


def _recomputed(program: Opened, scheme: Scheme) -> Opened:
    return replace(program, graph=apply(scheme, program.graph))


def staged_gradient(program: Opened, use: Use) -> Graph:
    """Stage the value and the cotangents of a program."""
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
    a value of an outer trace cannot be compiled, nor a type that names an outer trace's mesh."""
    graph = program.graph
    num_consts = len(graph.constvars)

    def run(*args: Any) -> tuple[list[Any], list[Any]]:
        held = replace(graph, consts=args[:num_consts])
        inner = replace(program, graph=held)
        leaves = args[num_consts : len(args) - len(program.zeros)]
        staged = replace(use.staged, leaves=list(leaves), evaluated={})
        outs, cts = value_and_cotangents(inner, staged)
        return (outs if use.returns_value else outs[1:]), cts

    avals: list[Any] = [v.aval for v in hoist_consts(graph).invars]
    return run, [
        jax.ShapeDtypeStruct(a.shape, a.dtype, weak_type=a.weak_type, sharding=use.sharding)
        for a in avals
    ]
