"""How many rules as users write them a checker catches, and how many right ones it calls wrong.

    python -m benchmarks.verification_written
    python -m benchmarks.verification_written --topics losses norms --no-peers

Each row of `benchmarks.written_rules` is built twice, wrong and right. `fbp.verify.check` is
beside `jax.test_util.check_grads` of the orders 1 and 2 and `chex.assert_numerical_grads`, each
at its own tolerances.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import chex
import jax
from jax.test_util import check_grads

from benchmarks.written_rules import ROWS, TOPICS, Case, Row
from fbp.verify import Kind, Report, check

PEERS: dict[str, Callable[[Any, Any], None]] = {
    "check_grads": lambda f, xs: check_grads(f, xs, order=1, modes=["rev"]),
    "check_grads, order 2": lambda f, xs: check_grads(f, xs, order=2, modes=["rev"]),
    "chex": lambda f, xs: chex.assert_numerical_grads(f, xs, order=1, modes=["rev"]),
}


@dataclass(frozen=True)
class Outcome:
    """What one checker says of one case: 'right', 'wrong', 'unresolved' or an error's name; and
    whether it names the rule and the operand."""

    verdict: str
    placed: bool = False


def by_fbp(row: Row, case: Case) -> tuple[Outcome, Report | None]:
    """Return the verdict of `fbp.verify.check` on all arguments together."""
    try:
        report = check(
            case.fun, *case.args, argnums=tuple(range(len(case.args))), declared=case.declared
        )
    except Exception as error:  # a crash is an outcome
        return Outcome(type(error).__name__), None
    if not report.ok:
        return Outcome("wrong", any(_places(row, f) for f in report.failures)), report
    unresolved = any(f.kind is Kind.UNRESOLVED for f in report.findings)
    return Outcome("unresolved" if unresolved else "right"), report


def _places(row: Row, finding: Any) -> bool:
    """Whether a finding names the row's rule, and its operand if that is the fault."""
    named = row.function in finding.message
    return named and (row.operand is None or finding.operand == row.operand)


def by_peer(peer: Callable, case: Case) -> str:
    """Return the verdict of another checker."""
    try:
        peer(case.fun, case.args)
    except AssertionError:
        return "wrong"
    except Exception as error:  # a crash is an outcome
        return type(error).__name__
    return "right"


def outcomes(row: Row, wrong: bool, with_peers: bool) -> dict[str, Outcome]:
    """Ask each checker of one version of a row."""
    with jax.enable_x64(row.x64):
        case = row.build(wrong)
        mine, report = by_fbp(row, case)
        said = {"fbp": mine}
        if with_peers:
            said |= {name: Outcome(by_peer(peer, case)) for name, peer in PEERS.items()}
    expected = mine.verdict == ("wrong" if wrong else "right") and (mine.placed or not wrong)
    if not expected:
        version = "wrong" if wrong else "right"
        print(f"{row.topic}.{row.name}, {version}: {mine}\n{report}", file=sys.stderr)
    return said


def count(said: list[dict[str, Outcome]], name: str, verdict: str) -> int:
    """How often a checker said this."""
    return sum(s[name].verdict == verdict for s in said if name in s)


def main() -> None:
    """Print the table."""
    names = [t.__name__.rsplit(".", 1)[-1] for t in TOPICS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--topics", nargs="*", default=names, choices=names)
    parser.add_argument("--rows", nargs="*", default=[r.name for r in ROWS])
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    chosen = [r for r in ROWS if r.topic in args.topics and r.name in args.rows]
    compare_all(chosen, with_peers=not args.no_peers)


def compare_all(rows: Sequence[Row], with_peers: bool) -> None:
    """Print what each checker says of each row, and of how many it is right."""
    wrong: list[dict[str, Outcome]] = []
    right: list[dict[str, Outcome]] = []
    checkers = ["fbp", *(PEERS if with_peers else ())]
    print(f"| rule | fault | {' | '.join(checkers)} |\n|---|---|{'---|' * len(checkers)}")
    for row in rows:
        start = time.perf_counter()
        wrong.append(outcomes(row, True, with_peers))
        right.append(outcomes(row, False, with_peers))
        cells = [f"{wrong[-1][c].verdict}, {right[-1][c].verdict}" for c in checkers]
        print(f"| {row.topic}: {row.function} | {row.fault} | {' | '.join(cells)} |", flush=True)
        print(f"{row.name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    n = len(rows)
    print(f"\n{n} wrong rules and {n} right ones (each cell above: of the wrong, of the right)")
    for c in checkers:
        print(
            f"{c}: caught {count(wrong, c, 'wrong')} of {n}, called wrong "
            f"{count(right, c, 'wrong')} of {n}, unresolved "
            f"{count(wrong, c, 'unresolved') + count(right, c, 'unresolved')} of {2 * n}, could "
            f"not run {2 * n - sum(count(s, c, v) for s in (wrong, right) for v in VERDICTS)}"
        )
    placed = sum(s["fbp"].placed for s in wrong)
    print(f"placed by fbp on the rule and its operand: {placed} of {n}")


VERDICTS = ("wrong", "right", "unresolved")

if __name__ == "__main__":
    main()
