"""Corrupt rules one at a time, and see whether the everyday tests of their family notice.

    python tools/corrupt_rules.py              all corruptions; exits with 1 if one was missed
    python tools/corrupt_rules.py scan cond    those of these primitives

A corruption changes what a primitive's pullback returns, or what it reads, in the way of a slip
in a derivation: a sign, an operand forgotten, an iteration too few, a value of another iteration.
The value of the program stays. Each runs in a process of its own, which stops at the first test
that fails: first the tests that name the primitive, then all of the family.
"""

import importlib
import pkgutil
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RULE_TESTS = Path("tests/autodiff/rules")

CORRUPTIONS = """
tanh: negated 0
sin: other point
exp: doubled 0
log: rolled 0
mul: dropped 1
mul: not conjugated
div: negated 1
pow: other point
sqrt: rounded 0
atan2: dropped 1
max: doubled 1
abs: not conjugated
logistic: other point
integer_pow: first order only
real: dropped 0
convert_element_type: rounded 0
lgamma: other point
erf_inv: negated 0
igamma: doubled 1
reduce_sum: doubled 0
reduce_max: rolled 0
reduce_prod: other point
cumsum: one row short 0
cumlogsumexp: negated 0
sort: rolled 0
select_n: dropped 2
pad: dropped 1
concatenate: dropped 1
transpose: rolled 0
rev: one row short 0
gather: rolled 0
scatter: dropped 2
dynamic_update_slice: negated 1
scatter-add: dropped 0
dot_general: dropped 0
dot_general: not conjugated
dot_general: first order only
ragged_dot_general: dropped 1
conv_general_dilated: doubled 1
reduce_window_sum: one row short 0
select_and_scatter_add: negated 0
cholesky: doubled 0
triangular_solve: dropped 0
lu: other point
eigh: negated 0
svd: other point
custom_linear_solve: negated last
fft: not conjugated
random_gamma: negated 1
reduce: negated 0
scan: negated 0
scan: dropped 1
scan: rolled last
scan: one row short last
scan: halved 0
scan: ignores output 0
scan: ignores output 1
scan: other point
while: dropped last
while: other point
while: ignores output 1
while: doubled last
cond: dropped last
cond: other point
cond: negated 1
jit: ignores output 1
jit: negated 0
jit: dropped last
remat2: other point
remat2: halved 0
custom_jvp_call: negated 0
custom_vjp_call: dropped 1
custom_vjp_call: doubled 0
shard_map: doubled 0
shard_map: dropped last
psum_invariant: doubled 0
all_gather: rolled 0
ppermute: rolled 0
reduce_scatter: negated 0
all_to_all: one row short 0
composite: negated 0
custom_vmap_call: doubled 0
""".strip().splitlines()


@dataclass(frozen=True)
class Outcome:
    """Whether a corruption was noticed, by which test, and the CPU seconds that it took."""

    corruption: str
    noticed: bool
    by: str
    seconds: float


# What a corruption does, given the index of an operand or output: a rule's `apply` becomes another


def of_operand(change: Callable[[Any], Any]) -> Callable:
    """Change the cotangent of one operand."""

    def corrupt(apply: Callable, index: int) -> Callable:
        def pulled(cts: list[Any]) -> list[Any]:
            changed = list(cts)
            if -len(changed) <= index < len(changed) and changed[index] is not None:
                changed[index] = change(changed[index])
            return changed

        return after(apply, pulled)

    return corrupt


def after(apply: Callable, change: Callable[[list[Any]], list[Any]]) -> Callable:
    """Change what the pullback returns."""

    def corrupted(call: Any, ins: list[Any]) -> tuple:
        outs, pullback = apply(call, ins)
        return outs, lambda cts: change(pullback(cts))

    return corrupted


def at_other_operands(change: Callable[[Any], Any]) -> Callable:
    """Let the pullback read other operands than those that the primitive has."""

    def corrupt(apply: Callable, _: int) -> Callable:
        def corrupted(call: Any, ins: list[Any]) -> tuple:
            others = [change(x) if is_float_array(x) else x for x in ins]
            return apply(call, ins)[0], apply(call, others)[1]

        return corrupted

    return corrupt


def ignores_output(apply: Callable, index: int) -> Callable:
    """Take the cotangent of one output for zero."""

    def corrupted(call: Any, ins: list[Any]) -> tuple:
        outs, pullback = apply(call, ins)

        def pulled(cts: list[Any]) -> list[Any]:
            rest = [None if i == index else ct for i, ct in enumerate(cts)]
            return [None] * len(ins) if all(ct is None for ct in rest) else pullback(rest)

        return outs, pulled

    return corrupted


def not_conjugated(apply: Callable, _: int) -> Callable:
    """Transpose where the conjugate is meant, or the reverse."""
    import jax.numpy as jnp

    return after(
        apply,
        lambda cts: [jnp.conj(ct) if ct is not None and is_complex(ct) else ct for ct in cts],
    )


def scaled(factor: float) -> Callable[[Any], Any]:
    """Multiply by a number, in the cotangent's dtype."""
    import numpy as np

    return lambda ct: ct * np.asarray(factor, ct.dtype)


def rolled(ct: Any) -> Any:
    """Shift by one along the first axis, as an iteration that reads its neighbor's value."""
    import jax.numpy as jnp

    return jnp.roll(ct, 1, 0) if ct.ndim else -ct


def one_row_short(ct: Any) -> Any:
    """Leave out the last along the first axis, as a loop with an iteration too few."""
    return ct.at[-1:].set(0) if ct.ndim else 0 * ct


def rounded(ct: Any) -> Any:
    """Keep half of the digits."""
    import jax.numpy as jnp

    half = {"float64": "float32", "float32": "bfloat16"}.get(str(ct.dtype))
    return ct if half is None else jnp.asarray(ct.astype(half), ct.dtype)


def elsewhere(x: Any) -> Any:
    """Return a point near x."""
    import numpy as np

    return x * np.asarray(1.0625, x.dtype) + np.asarray(0.03125, x.dtype)


def constant(x: Any) -> Any:
    """x without its derivative."""
    import jax

    return jax.lax.stop_gradient(x)


def is_float_array(x: Any) -> bool:
    """Whether x is an array, or a tracer of one, with a derivative."""
    import jax
    import jax.numpy as jnp

    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact)


def is_complex(ct: Any) -> bool:
    """Whether a cotangent is complex."""
    import jax.numpy as jnp

    return jnp.issubdtype(ct.dtype, jnp.complexfloating)


def faults() -> dict[str, Callable[[Callable, int], Callable]]:
    """Return the kinds of corruption, by the words of the list above."""
    return {
        "negated": of_operand(lambda ct: -ct),
        "dropped": of_operand(lambda _: None),
        "doubled": of_operand(scaled(2)),
        "halved": of_operand(scaled(0.5)),
        "rolled": of_operand(rolled),
        "one row short": of_operand(one_row_short),
        "rounded": of_operand(rounded),
        "not conjugated": not_conjugated,
        "other point": at_other_operands(elsewhere),
        "first order only": at_other_operands(constant),
        "ignores output": ignores_output,
    }


# Running


def parse(corruption: str) -> tuple[str, str, int]:
    """Parse the primitive, the fault and the index."""
    primitive, _, what = corruption.partition(": ")
    fault, _, index = what.rpartition(" ")
    if index == "last":
        return primitive, fault, -1
    return (primitive, fault, int(index)) if index.isdigit() else (primitive, what, 0)


def family(name: str) -> list[str]:
    """Return the test files of the module that states a primitive's rule."""
    from fbp.autodiff import rules

    for module in pkgutil.iter_modules(rules.__path__):
        table = getattr(importlib.import_module(f"{rules.__name__}.{module.name}"), "RULES", ())
        if name in {primitive.name for primitive in table}:
            files = [
                path
                for path in (ROOT / RULE_TESTS).glob(f"test_{module.name}*.py")
                if path.stem in (f"test_{module.name}", f"test_{module.name}_edges")
            ]
            return sorted(str(path.relative_to(ROOT)) for path in files)
    raise SystemExit(f"no rule for {name}")


def run_tests(corruption: str) -> int:
    """Corrupt, then run the tests of the family, in this process."""
    import pytest

    import fbp

    name, fault, index = parse(corruption)
    (rule,) = (rule for rule in fbp.RULES.values() if rule.primitive.name == name)
    # All tables hold this very rule: the one way to corrupt it in each.
    object.__setattr__(rule, "apply", faults()[fault](rule.apply, index))
    args = ["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", *family(name)]
    status = pytest.main([*args, "-k", name])
    return status if status == 1 else pytest.main(args)


def outcome(corruption: str) -> Outcome:
    """Run one corruption in a process of its own."""
    before = cpu_seconds()
    command = [sys.executable, __file__, "--corrupt", corruption]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    failed = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR"))]
    if done.returncode not in (0, 1):
        raise SystemExit(f"{corruption}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    by = failed[-1].partition("::")[2][:120] if failed else ""
    return Outcome(corruption, done.returncode == 1, by, cpu_seconds() - before)


def cpu_seconds() -> float:
    """Of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(argv: Sequence[str]) -> int:
    """Run all corruptions, or those of some primitives; 1 if one was not noticed."""
    if argv[:1] == ["--corrupt"]:
        return run_tests(argv[1])
    chosen = [c for c in CORRUPTIONS if not argv or parse(c)[0] in argv]
    missed = []
    for each in map(outcome, chosen):
        told = f"noticed by {each.by}" if each.noticed else "MISSED"
        print(f"{each.corruption}: {told} ({each.seconds:.0f} CPU s)", flush=True)
        missed += [] if each.noticed else [each.corruption]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} corruptions noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
