"""How many wrong gradients are found, and where, beside other checkers.

    python -m benchmarks.verification                  every function, float32 and float64
    python -m benchmarks.verification --only lstm      mutants of one
    python -m benchmarks.verification_written          the second half alone

One cotangent of one equation at a time is spoilt, in ten ways. A mutant whose gradient differs
from the right one, in float64, by no more than 1e-12 of any leaf's largest entry is equivalent (a
constant rolled, a zero doubled) and not counted. `fbp` is what `fbp.verify.check` does: the
gradient in its own precision and the same program in float64 beside `jax.grad`, then the marks.

The second half are rules as users write them, which `benchmarks.verification_written` runs too.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

import fbp
from benchmarks.mutants import FAULTS, Operand, faulty, operands
from benchmarks.subjects import SUBJECTS
from fbp.autodiff import graph as g
from fbp.verify.leaf_verdicts import verdicts_of
from fbp.verify.localise import blamed, marked, watched
from fbp.verify.precision import DOUBLE, in_precision
from fbp.verify.problem import CheckedFunction, problem_of
from fbp.verify.reference import coarsest_in_double, in_double, jax_reference

EQUIVALENT = 1e-12
PEERS = ("check_grads", "chex")


@dataclass(frozen=True)
class Mutant:
    """A mutant and what each checker made of it."""

    fault: str
    caught: bool
    by_itself: bool
    localised: bool
    peers: dict[str, bool]


def mutants(problem: CheckedFunction, with_peers: bool) -> list[Mutant]:
    """Every mutant of a function that is not equivalent."""
    numbers = {place: i for i, place in enumerate(operands(problem.loss, *problem.point))}

    def gradient(leaves: Any, arrays: Any, target: Any, fault: Any) -> Any:
        return fbp.grad(problem.loss, rules=faulty(numbers, target, fault))(leaves, arrays)

    none = (jnp.int32(-1), jnp.int32(0))
    single = jax.jit(gradient).lower(*problem.point, *none).compile()
    wide = in_precision(DOUBLE, gradient, *problem.point, *none)
    reference, *_ = jax_reference(problem)
    eps = coarsest_in_double(problem, lambda leaves, arrays: gradient(leaves, arrays, *none))
    loss = in_precision(DOUBLE, problem.loss, *problem.point)
    peers = _peers(problem, single) if with_peers else {}
    with jax.enable_x64(True):
        double = jax.jit(wide)
        point = in_double(problem)
        # The same operands in the same order; an equation of a rule may have a line here alone.
        in_wide = operands(loss, *point)
        wide_numbers = {place: i for i, place in enumerate(in_wide)}
        assert [x.primitive for x in numbers] == [x.primitive for x in in_wide]

        def marks(leaves: Any, arrays: Any, target: Any, fault: Any) -> Any:
            rules = marked(faulty(wide_numbers, target, fault))
            return fbp.value_and_grad(loss, rules=rules)(leaves, arrays)

        program, _ = g.stage(marks, *point, *none)
        watch = watched(program)

    found = []
    for number, place in enumerate(in_wide):
        for kind, fault in enumerate(FAULTS):
            which = jnp.int32(number), jnp.int32(kind)
            got = single(*problem.point, *which)
            with jax.enable_x64(True):
                fine = [np.asarray(x) for x in double(*point, *which)]
            if _equivalent(fine, reference.grads):
                continue
            own = [v.ok for v in verdicts_of(problem, reference, got, None, eps)]
            both = [v.ok for v in verdicts_of(problem, reference, got, fine, eps)]
            with jax.enable_x64(True):
                findings = blamed(program, watch(jax.tree.leaves((*point, *which))))
            found.append(
                Mutant(
                    fault=fault,
                    caught=not all(both),
                    by_itself=not all(own),
                    localised=_right(place, findings),
                    peers={name: peer(*which) for name, peer in peers.items()},
                )
            )
    return found


def _equivalent(got: list[np.ndarray], want: tuple[np.ndarray, ...]) -> bool:
    return all(
        np.max(abs(a - b)) <= EQUIVALENT * max(np.max(abs(b)), np.finfo(float).tiny)
        for a, b in zip(got, want, strict=True)
    )


def _right(place: Operand, findings: list[Any]) -> bool:
    """Whether the findings name this equation and no other."""
    named = {(f.primitive, f.source if place.source else "") for f in findings}
    return named == {(place.primitive, place.source)}


def _peers(problem: CheckedFunction, gradient: Callable) -> dict[str, Callable[[Any, Any], bool]]:
    """The other checkers, with the mutated gradient as the rule of a custom_vjp function."""

    loss = jax.jit(problem.loss)

    @jax.custom_vjp
    def value(leaves: Any, _target: Any, _fault: Any) -> Any:
        return loss(leaves, list(problem.arrays))

    def backward(kept: Any, ct: Any) -> Any:
        leaves, target, fault = kept
        grads = gradient(leaves, list(problem.arrays), target, fault)
        return [ct * x for x in grads], None, None

    value.defvjp(lambda *args: (value(*args), args), backward)

    def caught(check: Callable) -> Callable[[Any, Any], bool]:
        def one(target: Any, fault: Any) -> bool:
            try:
                check(lambda *leaves: value(list(leaves), target, fault), tuple(problem.leaves))
            except AssertionError:
                return True
            return False

        return one

    return {
        "check_grads": caught(lambda f, args: check_grads(f, args, order=1, modes=["rev"])),
        "chex": caught(
            lambda f, args: chex.assert_numerical_grads(f, args, order=1, modes=["rev"])
        ),
    }


def share(bools: list[bool]) -> str:
    """As a percentage."""
    return f"{100 * sum(bools) / len(bools):.4g} %" if bools else "-"


def rows(name: str, dtype: str, found: list[Mutant]) -> list[str]:
    """One line per fault."""
    lines = []
    for fault in FAULTS:
        some = [m for m in found if m.fault == fault]
        peers = [share([m.peers[p] for m in some if p in m.peers]) for p in PEERS]
        cells = [
            share([m.caught for m in some]),
            share([m.localised for m in some]),
            share([m.by_itself for m in some]),
            *peers,
        ]
        lines.append(f"| {name} | {dtype} | {fault} | {len(some)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS))
    parser.add_argument("--dtypes", nargs="*", default=["float32", "float64"])
    args = parser.parse_args()
    print(
        "| function | dtype | fault | mutants | caught | localised | caught in its own precision "
        "| check_grads | chex |\n|---|---|---|---|---|---|---|---|---|"
    )
    everything: list[Mutant] = []
    for name in args.only or SUBJECTS:
        for dtype in args.dtypes:
            start = time.perf_counter()
            with jax.enable_x64(dtype == "float64"):
                subject = SUBJECTS[name]()
                cast = jax.tree.map(lambda x, d=dtype: x.astype(d), (subject.params, *subject.data))
                found = mutants(problem_of(subject.loss, cast, 0), with_peers=True)
            everything += found
            print("\n".join(rows(name, dtype, found)), flush=True)
            print(
                f"{name} {dtype}: {time.perf_counter() - start:.0f} s",
                file=sys.stderr,
            )
    _say_all(everything)
    if not args.only:
        from benchmarks import verification_written  # takes Equinox and Flax
        from benchmarks.written_rules import ROWS

        verification_written.compare_all(ROWS, with_peers=True)


def _say_all(everything: list[Mutant]) -> None:
    """Print what was caught of all mutants."""
    print("\n".join(rows("all", "both", everything)))
    print(
        f"\n{len(everything)} mutants: caught {share([m.caught for m in everything])}, "
        f"localised {share([m.localised for m in everything])}, in their own precision "
        f"{share([m.by_itself for m in everything])}; "
        + ", ".join(f"{p} {share([m.peers[p] for m in everything])}" for p in PEERS)
    )


if __name__ == "__main__":
    main()
