"""The solvers and transposes that a user gives to `jax.lax.custom_linear_solve` and to
`jax.custom_derivatives.linear_call`, whose derivative obeys them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from fbp.autodiff import avals, interpret
from fbp.autodiff import graph as g
from fbp.verify import oracle
from fbp.verify.declared import of_library, user_source
from fbp.verify.observe import Site, Watch, observe, sites
from fbp.verify.problem import CheckedFunction, unraveled
from fbp.verify.report import Finding, Kind, RuleSummary
from fbp.verify.worst_entry import Row, magnitude, wide, worst_entry

SOLVE, CALL = "custom_linear_solve", "linear_call"
TOLERANCE = 1e-3
"""What a solver may leave of the right-hand side, as a share: iterative ones stop at some 1e-5, and
a wrong transpose leaves all of it. Of a transpose, the same share of its largest entry."""
SYSTEMS = ("solve", "transpose_solve")


def audit_transposes(problem: CheckedFunction) -> tuple[list[Finding], list[RuleSummary]]:
    """Return where a user's solver does not solve its system, or the transposed one: what it
    gives is multiplied by the matrix, and compared with the right-hand side; and where a user's
    transpose is not that of the function."""
    graph, _ = g.stage(problem.loss, *problem.point)
    theirs = [site for site in sites(graph) if is_of_user(site.eqn)]
    if not theirs:
        return [], []

    def measure(site: Site, ins: Sequence[Any], outs: Sequence[Any], iteration: tuple) -> Any:
        if not is_of_user(site.eqn):
            return None
        rows = jnp.stack(
            [jnp.stack(jax.tree.map(wide, list(row))) for row in _rows(site.eqn, ins, outs)]
        )
        when = jnp.array([jnp.asarray(i, jnp.int32) for i in iteration], jnp.int32)
        return rows, jnp.broadcast_to(when, (len(rows), len(iteration)))

    def merge(before: Any, now: Any) -> Any:
        worse = now[0][:, :1] > before[0][:, :1]
        return tuple(jnp.where(worse, b, a) for a, b in zip(before, now, strict=True))

    promotion = jax.numpy_dtype_promotion("standard")
    with promotion, jax.numpy_rank_promotion("allow"), jax.enable_x64(True):
        run = jax.jit(lambda args: observe(graph, args, Watch(measure, merge))[1])
        records = jax.device_get(run(jax.tree.leaves(problem.point)))
    findings = [
        _finding(site.eqn, system, Row(*map(float, row)), tuple(map(int, when)))
        for site in theirs
        if site.key in records and records[site.key].ran
        for system, row, when in zip(_checks(site.eqn), *records[site.key].record, strict=False)
        if row[0] > 1
    ]
    return findings, [
        RuleSummary(f"{site.eqn.primitive} at {user_source(site.eqn)}", int(site.key in records))
        for site in theirs
    ]


def _numbers(row: Row) -> Any:
    return jnp.stack([jnp.asarray(x, jnp.float64) for x in row])


def is_of_user(eqn: JaxprEqn) -> bool:
    """Return whether a user wrote the solvers: those of JAX's own functions are JAX's."""
    if eqn.primitive.name != SOLVE:
        return eqn.primitive.name == CALL
    return any(_file(eqn, system) and not of_library(_file(eqn, system)) for system in SYSTEMS)


def _checks(eqn: JaxprEqn) -> tuple[str, ...]:
    return SYSTEMS if eqn.primitive.name == SOLVE else ("transpose",)


def _file(eqn: JaxprEqn, system: str) -> str:
    jaxpr = getattr(eqn.params["jaxprs"], system)
    if jaxpr is None:
        return ""
    info = getattr(jaxpr, "jaxpr", jaxpr).debug_info.func_src_info or ""
    return info.partition(" at ")[2]


def _rows(eqn: JaxprEqn, ins: Sequence[Any], outs: Sequence[Any]) -> list[Row]:
    """Return what the matrix makes of each solution, beside the right-hand side; or what the user's
    transpose makes of a cotangent, beside the transpose."""
    if eqn.primitive.name == CALL:
        return [_of_transpose(eqn, ins)]
    jaxprs, lengths = eqn.params["jaxprs"], eqn.params["const_lengths"]
    names = ("matvec", "vecmat", "solve", "transpose_solve")
    ends = np.cumsum([getattr(lengths, name) for name in names])
    parts = [list(ins[end - getattr(lengths, n) : end]) for n, end in zip(names, ends, strict=True)]
    consts: dict[str, list[Any]] = dict(zip(names, parts, strict=True))
    b = list(ins[ends[-1] :])

    def run(name: str, x: Sequence[Any]) -> list[Any]:
        return interpret.eval_graph(g.from_jaxpr(getattr(jaxprs, name)), [*consts[name], *x])

    rows = [_row(run("matvec", outs[: len(b)]), b)]
    if jaxprs.transpose_solve is None:
        return rows
    cts = _cotangents(b)
    transposed = oracle.linear_transpose(lambda *x: run("matvec", x), *b)
    return [*rows, _row(list(transposed(run("transpose_solve", cts))), cts)]


def _of_transpose(eqn: JaxprEqn, ins: Sequence[Any]) -> Row:
    params = eqn.params
    split = params["num_callee_consts"], params["num_callee_consts"] + params["num_res"]
    residuals, xs = ins[split[0] : split[1]], ins[split[1] :]
    cts = _cotangents(eqn.outvars)
    transpose, consts = params["transpose_thunk"]()
    got = interpret.eval_graph(g.from_jaxpr(transpose), (*consts, *residuals, *cts))
    body = g.from_jaxpr(params["callee"])
    plain = jax.linear_transpose(
        lambda *xs: interpret.eval_graph(body, (*ins[: split[1]], *xs)), *xs
    )
    return _row(got, plain(cts))


def _cotangents(values: Sequence[Any]) -> list[Any]:
    return [
        jnp.asarray(np.random.default_rng(i).uniform(0.25, 1, x.shape), x.dtype)
        for i, x in enumerate(map(avals.struct, values))
    ]


def _row(got: Sequence[Any], expected: Sequence[Any]) -> Row:
    left, right = (jnp.concatenate([jnp.ravel(wide(x)) for x in xs]) for xs in (got, expected))
    return worst_entry(left, right, TOLERANCE * magnitude(right), 0)


def _finding(eqn: JaxprEqn, system: str, row: Row, when: tuple[int, ...]) -> Finding:
    matrix = "the matrix" if system == "solve" else "the transposed matrix"
    reason = (
        "is not the transpose of its function"
        if system == "transpose"
        else f"does not solve its system: {matrix} times what it gives is not the right-hand side"
    )
    shape = avals.struct((eqn.invars if system == "transpose" else eqn.outvars)[-1]).shape
    return Finding(
        kind=Kind.WRONG_CUSTOM_RULE,
        message=f"{system} of {eqn.primitive} {reason}. The derivative obeys it: mend it.",
        index=unraveled(int(row.entry), shape) if row.entry < np.prod(shape) else None,
        expected=row.expected,
        got=row.got,
        primitive=str(eqn.primitive),
        iteration=when,
        source=user_source(eqn),
    )
