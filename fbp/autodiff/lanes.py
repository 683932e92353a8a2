"""Lane analysis: find which axes of a batched program's constants are lanes.

vmap leaves no trace of what it batched, but every equation maps axes to axes: elementwise work
keeps axis i as axis i, a transposition permutes them, a product has batch, free and contracted
ones. So axes are unified, as in type inference, and a constant's axis is a lane if it is unified
with a lane axis of the state. Equations that are not listed here leave it unknown.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from jax.extend.core import primitives as p

from fbp.autodiff import graph as g
from fbp.autodiff.compat import scan_counts
from fbp.autodiff.graph import Graph, JaxprEqn, Var

Axis = tuple[Any, int]
Same = tuple[Axis, Axis]


def lanes_of_consts(body: Graph, num_consts: int, num_lanes: int) -> list[dict[int, int]]:
    """Find the axes of each constant of a loop's body that are lanes: {lane: axis}.

    The leading axes of the state, in and out, are the lanes.
    """
    neighbors: dict[Axis, list[Axis]] = defaultdict(list)
    for a, b in _same_in_program(body, ()):
        neighbors[a].append(b)
        neighbors[b].append(a)
    state = (*body.invars[num_consts:], *g.variables(body.outvars))
    lanes: list[dict[int, int]] = [{} for _ in range(num_consts)]
    for lane in range(num_lanes):
        known = _connected([(((), v), lane) for v in state], neighbors)
        for adjacent, v in zip(lanes, body.invars[:num_consts], strict=False):
            axes = [i for i in range(_ndim(v)) if (((), v), i) in known]
            if len(axes) == 1:
                adjacent[lane] = axes[0]
    return lanes


def _connected(seeds: Iterable[Axis], neighbors: dict[Axis, list[Axis]]) -> set[Axis]:
    known, new = set(seeds), list(seeds)
    while new:
        more = {b for b in neighbors[new.pop()] if b not in known}
        known |= more
        new.extend(more)
    return known


def _same_in_program(graph: Graph, path: tuple) -> Iterator[Same]:
    """Collect the pairs of axes that are the same; a program that is called twice has two of
    each."""
    for number, eqn in enumerate(graph.eqns):
        for (v, i), (w, j) in SAME.get(eqn.primitive.name, _nothing)(eqn):
            if isinstance(v, Var) and isinstance(w, Var) and _shape(v)[i] == _shape(w)[j]:
                yield ((path, v), i), ((path, w), j)
        for program, axes_of in programs(eqn):
            inner = (*path, number, program)
            yield from _same_in_program(program, inner)
            for v, w, shift in axes_of(program):
                if isinstance(v, Var) and isinstance(w, Var):
                    for i in range(_ndim(w)):
                        yield ((path, v), i + shift), ((inner, w), i)


def _ndim(v: Any) -> int:
    return len(_shape(v))


def _shape(v: Any) -> tuple[int, ...]:
    return getattr(v.aval, "shape", ())


def _leading(less: int) -> Callable[[JaxprEqn], Iterator[Same]]:
    """Map axis i to axis i in all operands and results, except for the last `less` axes."""

    def same(eqn: JaxprEqn) -> Iterator[Same]:
        values = (*eqn.invars, *eqn.outvars)
        for i in range(max(map(_ndim, values)) - less):
            along = [v for v in values if _ndim(v) > i]
            first = max(along, key=lambda v: _shape(v)[i])
            yield from (((first, i), (v, i)) for v in along)

    return same


def _nothing(_: JaxprEqn) -> Iterator[Same]:
    yield from ()


def _of_operand(axes: Callable[..., Iterable[tuple[int, int]]]) -> Callable:
    """Map axes of the first operand to axes of the result, by the operand's rank and parameters."""

    def same(eqn: JaxprEqn) -> Iterator[Same]:
        (x, *_), outs = eqn.invars, eqn.outvars
        for out in outs:
            yield from (((x, i), (out, j)) for i, j in axes(_ndim(x), eqn.params, x, out))

    return same


def _without(dropped: Callable[[dict], Sequence[int]]) -> Callable:
    def axes(ndim: int, params: dict, *_: Any) -> Iterator[tuple[int, int]]:
        gone = {i % ndim for i in dropped(params)} if ndim else set()
        return ((i, j) for j, i in enumerate(i for i in range(ndim) if i not in gone))

    return _of_operand(axes)


def _reshaped(_: int, __: dict, x: Any, out: Any) -> Iterator[tuple[int, int]]:
    """Map leading axes of the same sizes to each other."""
    for i, (m, n) in enumerate(zip(_shape(x), _shape(out), strict=False)):
        if m != n:
            return
        yield i, i


def _aligned(ndim: int, *_: Any) -> Iterator[tuple[int, int]]:
    return ((i, i) for i in range(ndim))


def _updated(eqn: JaxprEqn) -> Iterator[Same]:
    x, update = eqn.invars[:2]
    for i in range(_ndim(x)):
        yield (x, i), (eqn.outvars[0], i)
        yield (x, i), (update, i)


def _joined(eqn: JaxprEqn) -> Iterator[Same]:
    (out,), along = eqn.outvars, eqn.params.get("dimension")
    for v in eqn.invars:
        yield from (((v, i), (out, i)) for i in range(_ndim(v)) if i != along)


def _stacked(eqn: JaxprEqn) -> Iterator[Same]:
    """Map axes between a stack and its parts, which lack one of its axes."""
    full_axes, parts = eqn.outvars[0], eqn.invars
    if eqn.primitive.name == "unstack":
        full_axes, parts = eqn.invars[0], eqn.outvars
    for part in parts:
        yield from (
            ((part, i), (full_axes, i + (i >= eqn.params["axis"]))) for i in range(_ndim(part))
        )


def _one_to_one(eqn: JaxprEqn) -> Iterator[Same]:
    for v, w in zip(eqn.invars, eqn.outvars, strict=True):
        yield from (((v, i), (w, i)) for i in range(_ndim(v)))


def _product(eqn: JaxprEqn) -> Iterator[Same]:
    a, b = eqn.invars[:2]
    (out,) = eqn.outvars
    (contract_a, contract_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    free_a = [i for i in range(_ndim(a)) if i not in (*contract_a, *batch_a)]
    free_b = [i for i in range(_ndim(b)) if i not in (*contract_b, *batch_b)]
    yield from (((a, i), (b, j)) for i, j in zip(contract_a, contract_b, strict=True))
    yield from (((a, i), (b, j)) for i, j in zip(batch_a, batch_b, strict=True))
    outputs = [*((a, i) for i in (*batch_a, *free_a)), *((b, i) for i in free_b)]
    yield from ((axis, (out, j)) for j, axis in enumerate(outputs))


def _gathered(eqn: JaxprEqn) -> Iterator[Same]:
    (x, indices), (out,) = eqn.invars, eqn.outvars
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    sliced = [i for i in range(_ndim(x)) if i not in gone]
    yield from (
        ((x, i), (out, j))
        for i, j in zip(sliced, numbers.offset_dims, strict=True)
        if sizes[i] == _shape(x)[i]
    )
    yield from _indexed(x, indices, out, numbers.offset_dims, numbers, "start_indices")


def _scattered(eqn: JaxprEqn) -> Iterator[Same]:
    x, indices, updates = eqn.invars
    numbers = eqn.params["dimension_numbers"]
    yield from (((x, i), (eqn.outvars[0], i)) for i in range(_ndim(x)))
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = [i for i in range(_ndim(x)) if i not in gone]
    yield from (
        ((x, i), (updates, j)) for i, j in zip(window, numbers.update_window_dims, strict=True)
    )
    yield from _indexed(x, indices, updates, numbers.update_window_dims, numbers, "scatter_indices")


def _indexed(x, indices, values, window, numbers, name) -> Iterator[Same]:
    """Map the axes of the indices to those axes of the values that belong to no window; some are
    lanes of the operand as well."""
    others = [i for i in range(_ndim(values)) if i not in window]
    yield from (((indices, i), (values, j)) for i, j in enumerate(others))
    batched = getattr(numbers, f"{name}_batching_dims")
    yield from (
        ((x, i), (indices, j)) for i, j in zip(numbers.operand_batching_dims, batched, strict=True)
    )


def programs(eqn: JaxprEqn) -> Iterator[tuple[Graph, Callable]]:
    """Return the programs that an equation holds, and (outer, inner, number of further outer axes)
    for each."""
    params, ins, outs = eqn.params, eqn.invars, eqn.outvars
    if eqn.primitive is p.scan_p:
        num_consts, num_carry = scan_counts(params)
        scanned = num_consts + num_carry

        def of_scan(body):
            for i, (v, w) in enumerate(zip(ins, body.invars, strict=True)):
                yield v, w, int(i >= scanned)
            for i, (v, w) in enumerate(zip(outs, body.outvars, strict=True)):
                yield v, w, int(i >= num_carry)

        yield g.body(params), of_scan
    elif eqn.primitive is p.while_p:
        num = params["cond_nconsts"]
        yield g.from_jaxpr(params["body_jaxpr"]), _operands(ins[num:], outs)
        rest = [*ins[:num], *ins[num + params["body_nconsts"] :]]
        yield g.from_jaxpr(params["cond_jaxpr"]), _operands(rest, ())
    elif eqn.primitive is p.cond_p:
        for branch in params["branches"]:
            yield g.from_jaxpr(branch), _operands(ins[1:], outs)
    elif any(name in params for name in ("jaxpr", "call_jaxpr", "call")):
        body = g.body(params)
        if len(body.invars) == len(ins) and len(body.outvars) == len(outs):
            yield body, _operands(ins, outs)


def _operands(ins: Sequence[Any], outs: Sequence[Any]) -> Callable:
    def axes_of(body):
        yield from ((v, w, 0) for v, w in zip(ins, body.invars, strict=False))
        yield from ((v, w, 0) for v, w in zip(outs, body.outvars, strict=False))

    return axes_of


def _named(same: Callable[[JaxprEqn], Iterator[Same]], names: str) -> dict[str, Callable]:
    return dict.fromkeys(names.split(), same)


SAME: dict[str, Callable[[JaxprEqn], Iterator[Same]]] = {
    **_named(
        _leading(0),
        """abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt
        ceil clamp clz complex conj convert_element_type copy copy_p cos cosh cumlogsumexp
        cummax cummin cumprod cumsum device_put digamma div eq eq_to erf erf_inv erfc exp exp2
        expm1 fft floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite
        lane_select layout_constraint le le_to lgamma log log1p log2 logistic lt lt_to max min
        mul name ne neg nextafter not one_minus_square or polygamma population_count pow
        ppermute psum psum_invariant pvary random_fold_in random_gamma random_seed real
        reduce_precision regularized_incomplete_beta rem reshard rev round rsqrt select_n
        sharding_constraint shift_left shift_right_arithmetic shift_right_logical sign sin
        sinh sort sqrt square stop_gradient sub tan tanh threefry2x32 xor zeta""",
    ),
    **_named(_leading(1), "approx_top_k top_k"),
    **_named(
        _leading(2),
        """cholesky eig eigh householder_product lu qr schur svd triangular_solve
        tridiagonal_solve""",
    ),
    **_named(
        _without(lambda params: params["axes"]),
        """argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum
        reduce_xor""",
    ),
    **_named(_without(lambda params: params["dimensions"]), "reduce squeeze"),
    **_named(
        _of_operand(_aligned),
        """dynamic_slice pad random_bits random_split random_unwrap random_wrap reduce_window
        reduce_window_max reduce_window_min reduce_window_sum slice split""",
    ),
    **_named(_of_operand(_reshaped), "reshape"),
    **_named(
        _of_operand(lambda _, params, *__: enumerate(params["broadcast_dimensions"])),
        "broadcast_in_dim",
    ),
    **_named(
        _of_operand(lambda _, params, *__: ((i, j) for j, i in enumerate(params["permutation"]))),
        "transpose",
    ),
    **_named(
        _of_operand(
            lambda ndim, params, *_: ((i, i) for i in range(ndim) if params["reps"][i] == 1)
        ),
        "tile",
    ),
    **_named(_stacked, "stack unstack"),
    **_named(_one_to_one, "optimization_barrier"),
    **_named(_updated, "dynamic_update_slice"),
    **_named(_joined, "concatenate"),
    **_named(_product, "dot_general"),
    **_named(_gathered, "gather"),
    **_named(_scattered, "scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max"),
}
