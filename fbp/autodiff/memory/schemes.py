"""What may be recomputed: stretches of a program, and the iterations of its scans.

A `Scheme` is a small value, applied to any program of the same structure. It says how the long
scans of the program are run, and in how many stretches the rest is divided; what lies in a stretch,
or in a block of iterations, is a `jax.checkpoint`, so that the backward pass computes it again from
what goes in. What is stored may lie in host memory. Chen et al., Training deep nets with sublinear
memory cost, 2016; Griewank and Walther, Revolve, 2000; Rhu et al., vDNN, 2016.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.avals import is_inexact, num_bytes, struct
from fbp.autodiff.compat import scan_counts
from fbp.autodiff.graph import Graph, JaxprEqn, Var, variables
from fbp.autodiff.inline import inlined
from fbp.autodiff.interpret import bind, eval_graph
from fbp.autodiff.save_policy import Hidden

LONG = 4  # iterations: a shorter scan holds too little to be divided
MANY = 8  # equations: a shorter program is one stretch
PRODUCTS = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
INPUT = "fbp: input of what is computed again"
TO_HOST = ("device", "pinned_host")
INPUTS_TO_HOST = jax.checkpoint_policies.save_and_offload_only_these_names(
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=[INPUT],
    offload_src=TO_HOST[0],
    offload_dst=TO_HOST[1],
)
PRODUCTS_TO_HOST = jax.checkpoint_policies.offload_dot_with_no_batch_dims(*TO_HOST)


def _all_to_host(*args: Any, **params: Any) -> Any:
    """Judge as the policies of products and of inputs, whichever it concerns."""
    concerned = PRODUCTS_TO_HOST if PRODUCTS(*args, **params) else INPUTS_TO_HOST
    return concerned(*args, **params)


POLICIES = {
    ("nothing", False): None,
    ("products", False): PRODUCTS,
    ("nothing", True): INPUTS_TO_HOST,
    ("products", True): _all_to_host,
}
"""By what is stored besides the inputs, and whether in host memory."""
STORED = ("nothing", "products")


@dataclass(frozen=True)
class Scheme:
    """How a program is recomputed.

    Attributes:
      levels: of blocks of iterations that a long scan is divided into; 1: as it is.
      iterations: what of an iteration is stored besides its input, one of `STORED`; None: as the
        scan's rule has it.
      stretches: that the program outside of long scans is divided into, then each of them, and so
        on; none: as it is.
      stored: what of a stretch is stored besides its inputs, one of `STORED`.
      host: whether what is stored, inputs that the program makes among it, lies in host memory.

    >>> Scheme()
    Scheme(levels=1, iterations=None, stretches=(), stored='nothing', host=False)
    """

    levels: int = 1
    iterations: str | None = None
    stretches: tuple[int, ...] = ()
    stored: str = "nothing"
    host: bool = False

    def __str__(self) -> str:
        scans = f"scans in {self.levels} levels" if self.levels > 1 else ""
        if self.iterations:
            scans += f"{' and ' if scans else ''}of each iteration {self.iterations} stored"
        count = " x ".join(map(str, self.stretches))
        parts = f"{count} stretches, {self.stored} stored" if self.stretches else ""
        host = "in host memory" if self.host else ""
        text = "; ".join(part for part in (scans, parts, host) if part)
        return text or "nothing is computed again"


def schemes(graph: Graph, host: bool = False) -> Iterator[Scheme]:
    """Return the schemes that differ for a program: one of its two parts is varied at a time, and
    both at the ends; where there is a host memory, some also with what is stored there."""
    eqns = inlined(graph).eqns
    scans: list[tuple[int, str | None]] = [(1, None)]
    if any(map(is_long_scan, eqns)):
        scans += [(1, "products"), (1, "nothing"), (2, None), (2, "nothing"), (3, "nothing")]
    yield from (Scheme(*scan) for scan in scans)
    if host and len(scans) > 1:
        yield from (Scheme(iterations=stored, host=True) for stored in STORED)
    if (count := len(eqns)) < MANY:
        return
    root, cube_root = round(count ** (1 / 2)), round(count ** (1 / 3))
    divisions = sorted({2, 4, 8, root, count // 4} - {0, 1})
    for k in divisions:
        yield from (Scheme(stretches=(k,), stored=stored) for stored in STORED)
    if cube_root > 2:
        yield Scheme(stretches=(cube_root, cube_root))
    yield from (Scheme(*scan, (k,)) for scan in scans[2:] for k in sorted({4, root}))
    if host:
        iterations = "nothing" if len(scans) > 1 else None
        for k in divisions[1:]:
            yield Scheme(iterations=iterations, stretches=(k,), host=True)


def apply(scheme: Scheme, graph: Graph) -> Graph:
    """Return the same function as a program that is recomputed by the scheme."""
    if scheme == Scheme():
        return graph
    graph = inlined(graph)

    program = Graph((*graph.constvars, *graph.invars), graph.outvars, graph.eqns)

    def run(*args: Any) -> list[Any]:
        return _divided(program, args, scheme, scheme.stretches)

    avals = [struct(v.aval) for v in (*graph.constvars, *graph.invars)]
    staged, _ = g.stage(run, *avals)
    num_consts = len(graph.constvars)
    return Graph(
        staged.invars[num_consts:],
        staged.outvars,
        staged.eqns,
        (*staged.constvars, *staged.invars[:num_consts]),
        (*staged.consts, *graph.consts),
    )


def _divided(
    program: Graph, args: Sequence[Any], scheme: Scheme, stretches: tuple[int, ...]
) -> list[Any]:
    """Run a program in stretches, all but the last of which are checkpoints: the backward pass
    begins with the last, and would compute it again at once."""
    if not stretches or len(program.eqns) < 2:
        return _run(program, args, scheme)
    count, *inner = stretches
    values: dict[Any, Any] = dict(zip(program.invars, args, strict=True))
    for stretch in _stretches(program, count):
        part = _part(program, stretch)
        run = partial(_divided, part, scheme=scheme, stretches=tuple(inner))
        if stretch.stop < len(program.eqns) and not any(eqn.effects for eqn in part.eqns):
            moves = [scheme.host and v not in program.invars for v in part.invars]
            policy = Hidden(POLICIES[scheme.stored, scheme.host])

            def again(*xs, run=run, moves=moves):
                return run([_named(x) if m else x for x, m in zip(xs, moves, strict=True)])

            results = jax.checkpoint(again, policy=policy)(*(values[v] for v in part.invars))
        else:
            results = run([values[v] for v in part.invars])
        values |= zip(part.outvars, results, strict=True)
    return [values[v] if isinstance(v, Var) else v.val for v in program.outvars]


def _named(x: Any) -> Any:
    """Name what is worth moving: arrays of numbers, neither scalars nor keys."""
    return checkpoint_name(x, INPUT) if jax.numpy.ndim(x) and is_inexact(x.dtype) else x


def _run(program: Graph, args: Sequence[Any], scheme: Scheme) -> list[Any]:
    """Run a stretch, its long scans by the scheme."""
    values = dict(zip(program.invars, args, strict=True))
    for eqn in program.eqns:
        ins = [values[a] if isinstance(a, Var) else a.val for a in eqn.invars]
        divided = is_long_scan(eqn) and (scheme.levels > 1 or scheme.iterations)
        outs = _run_scan(eqn, ins, scheme) if divided else bind(eqn, ins)
        values |= zip(eqn.outvars, outs, strict=True)
    return [values[v] if isinstance(v, Var) else v.val for v in program.outvars]


def is_long_scan(eqn: JaxprEqn) -> bool:
    """Test whether an equation is a scan that is worth dividing."""
    return eqn.primitive is p.scan_p and eqn.params["length"] >= LONG and not eqn.effects


def _run_scan(eqn: JaxprEqn, ins: Sequence[Any], scheme: Scheme) -> list[Any]:
    params = eqn.params
    num_consts, num_carry = scan_counts(params)
    consts, init, xs = ins[:num_consts], ins[num_consts:][:num_carry], ins[num_consts + num_carry :]
    body = g.body(params)

    def step(carry, x):
        carry = map(_named, carry) if scheme.host else carry
        outs = eval_graph(body, (*consts, *carry, *x))
        return tuple(outs[:num_carry]), tuple(outs[num_carry:])

    if scheme.iterations:
        # Within a scan XLA cannot share what the loop's halves compute: no barrier is needed.
        policy = POLICIES[scheme.iterations, scheme.host]
        step = jax.checkpoint(step, policy=policy, prevent_cse=False)
    carry, ys = _nested(
        step, tuple(init), tuple(xs), params["length"], params["reverse"], scheme.levels
    )
    return [*carry, *ys]


def _nested(step: Any, carry: Any, xs: Any, length: int, reverse: bool, levels: int) -> Any:
    """Scan in blocks of blocks: each block is a checkpoint, what is over a scan of its own."""
    size = _block(length, levels) if levels > 1 else length
    if levels == 1 or size in (1, length):
        return lax.scan(step, carry, xs, length=length, reverse=reverse)
    blocks, over = divmod(length, size)
    first = 0 if reverse is False else over
    inside = jax.tree.map(lambda x: x[first : first + blocks * size], xs)
    outside = jax.tree.map(lambda x: x[blocks * size :] if first == 0 else x[:over], xs)

    def block(carry, x):
        return _nested(step, carry, x, size, reverse, levels - 1)

    divided = jax.tree.map(lambda x: x.reshape(blocks, size, *x.shape[1:]), inside)
    block = jax.checkpoint(block, prevent_cse=False)
    carry, ys = lax.scan(block, carry, divided, length=blocks, reverse=reverse)
    ys = jax.tree.map(lambda y: y.reshape(blocks * size, *y.shape[2:]), ys)
    if not over:
        return carry, ys
    carry, rest = lax.scan(step, carry, outside, length=over, reverse=reverse)
    order = (lambda a, b: (a, b)) if first == 0 else (lambda a, b: (b, a))
    return carry, jax.tree.map(lambda a, b: jax.numpy.concatenate(order(a, b)), ys, rest)


def _block(length: int, levels: int) -> int:
    """Return how many iterations a block has: near the root, and a divisor if one is near, since
    rows that are over are copied."""
    root = length ** (1 - 1 / levels)
    divisors = [d for d in range(2, length) if length % d == 0 and root / 2 <= d <= 2 * root]
    return min(divisors, key=lambda d: abs(math.log(d / root)), default=round(root))


def _stretches(graph: Graph, count: int) -> list[range]:
    """Divide a program where little is alive, into stretches that make about the same bytes."""
    total = len(graph.eqns)
    sizes = [sum(num_bytes(v.aval) for v in eqn.outvars) for eqn in graph.eqns]
    alive = crossing(graph)
    ends, so_far, share = [0], 0, sum(sizes) / count
    targets = []
    for i, size in enumerate(sizes):
        so_far += size
        while len(targets) < count - 1 and so_far >= share * (len(targets) + 1):
            targets.append(i + 1)
    window = max(1, total // (4 * count))  # a quarter of a stretch to each side
    for target in targets:
        near = range(max(ends[-1] + 1, target - window), min(total, target + window + 1))
        if near:
            ends.append(min(near, key=lambda i: (alive[i], abs(i - target))))
    return [range(a, b) for a, b in zip(ends, [*ends[1:], total], strict=True) if a < b]


def crossing(graph: Graph) -> list[int]:
    """Return the bytes that are alive before each equation, inputs apart."""
    last: dict[Var, int] = {}
    for i, eqn in enumerate(graph.eqns):
        last |= dict.fromkeys(variables(eqn.invars), i)
    last |= dict.fromkeys(variables(graph.outvars), len(graph.eqns))
    change = [0] * (len(graph.eqns) + 2)
    for i, eqn in enumerate(graph.eqns):
        for v in eqn.outvars:
            if v in last:
                change[i + 1] += num_bytes(v.aval)
                change[last[v] + 1] -= num_bytes(v.aval)
    alive, now = [], 0
    for delta in change[:-1]:
        now += delta
        alive.append(now)
    return alive


def _part(program: Graph, stretch: range) -> Graph:
    """Return a stretch as a program: of what it reads from outside, to what is read after it."""
    eqns = program.eqns[stretch.start : stretch.stop]
    defined = [v for eqn in eqns for v in eqn.outvars]
    after = variables(*(eqn.invars for eqn in program.eqns[stretch.stop :]), program.outvars)
    ins = dict.fromkeys(v for eqn in eqns for v in eqn.invars if isinstance(v, Var))
    inner = set(defined)
    return Graph(
        tuple(v for v in ins if v not in inner), tuple(v for v in defined if v in after), eqns
    )
