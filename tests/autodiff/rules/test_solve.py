"""Linear equations: triangles, tridiagonals, and matrices that are programs. The matrices'
condition numbers are below 10, which the tolerances allow for."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p
from jax.scipy.sparse.linalg import bicgstab, cg, gmres

import fbp
from fbp.autodiff.rules import solve
from fbp.testing import Case
from tests.support.agreement import assert_same, total
from tests.support.matrices import FIELDS, dominant, positive
from tests.support.table import rule_tests

L = lax.linalg


def case(primitive, fun, *args, **how):
    return Case(primitive, fun, args, FIELDS, tolerance=32, **how)


def triangular(left, lower, transposed, conjugated, unit):
    fun = functools.partial(
        L.triangular_solve,
        left_side=left,
        lower=lower,
        transpose_a=transposed,
        conjugate_a=conjugated,
        unit_diagonal=unit,
    )
    name = f"{left=} {lower=} {transposed=} {conjugated=} {unit=}"
    some = lower != transposed and left != unit
    sides = (3, 2) if left else (2, 3)
    weighted = (lambda a, b: fun(a / 8, b)) if unit else fun
    return case(p.triangular_solve_p, weighted, dominant(3, 3), sides, name=name, composed=some)


def dense(a, b):
    """A solution by a program that inverts the matrix."""
    return lax.custom_linear_solve(
        functools.partial(jnp.matmul, a),
        b,
        lambda _, b: jnp.linalg.inv(a) @ b,
        lambda _, b: jnp.linalg.inv(a).T @ b,
    )


def with_aux(a, b):
    """A solution with a count and a norm beside it."""

    def solution(_, b):
        return jnp.linalg.inv(a) @ b, (jnp.int32(3), jnp.sum(b))

    def of_transpose(_, b):
        return jnp.linalg.inv(a).T @ b, (jnp.int32(3), jnp.sum(b))

    return lax.custom_linear_solve(
        functools.partial(jnp.matmul, a), b, solution, of_transpose, has_aux=True
    )


def in_two_parts(a, b):
    """A solution that is a dictionary."""

    def matvec(x):
        return {"u": a @ x["u"], "v": 2 * x["v"] + a @ x["u"]}

    def solution(_, b):
        u = jnp.linalg.inv(a) @ b["u"]
        return {"u": u, "v": (b["v"] - a @ u) / 2}

    def of_transpose(_, b):
        v = b["v"] / 2
        return {"u": jnp.linalg.inv(a).T @ b["u"] - v, "v": v}

    return lax.custom_linear_solve(matvec, {"u": b, "v": 3 * b}, solution, of_transpose)


CASES = [
    *(triangular(*flags) for flags in itertools.product((False, True), repeat=5)),
    case(p.triangular_solve_p, L.triangular_solve, dominant(2, 2, 3, 3), (2, 2, 4, 3)),
    case(p.triangular_solve_p, L.triangular_solve, (0, 0), (2, 0), name="empty", composed=False),
    case(p.triangular_solve_p, lambda b: L.triangular_solve(np.eye(3).astype(b.dtype), b), (2, 3)),
    case(
        p.tridiagonal_solve_p,
        lambda below, on, above, b: L.tridiagonal_solve(below, 4 + on, above, b),
        *((2, 4), (2, 4), (2, 4), (2, 4, 3)),
        composed=False,
    ),
    case(
        p.tridiagonal_solve_p,
        lambda below, on, above, b: L.tridiagonal_solve(below, 4 + on, above, b),
        *((3,), (3,), (3,), (3, 1)),
        name="a vector",
    ),
    case(p.linear_solve_p, dense, dominant(3, 3), (3,)),
    case(p.linear_solve_p, with_aux, dominant(3, 3), (3,), name="aux", composed=False),
    case(p.linear_solve_p, in_two_parts, dominant(3, 3), (3,), name="a tree", composed=False),
    case(p.linear_solve_p, jnp.linalg.solve, dominant(2, 3, 3), (2, 3, 2), name="LU"),
]


TestRules = rule_tests(solve.RULES, CASES, composed=("complex128",))


def made(*makes, dtype="float32"):
    return Case(p.lu_p, L.lu, makes).arguments(dtype)


@pytest.mark.parametrize("method", [cg, gmres, bicgstab])
def test_iterative_solutions_have_jaxs_gradient(method):
    def solution(a, b):
        return total(method(functools.partial(jnp.matmul, a), b, tol=1e-7)[0])

    a, b = made(positive(4, 4), (4,))
    want = jax.grad(solution, (0, 1))(a, b)
    assert_same(fbp.grad(solution, (0, 1))(a, b), want, 32)


@pytest.mark.parametrize(
    "solution",
    [
        lambda a, b: L.triangular_solve(a, b, left_side=True, lower=True),
        lambda a, b: L.tridiagonal_solve(a[0], jnp.diag(a), a[1], b),
        lambda a, b: dense(a, b),
        lambda a, b: jnp.linalg.solve(a, b),
    ],
    ids=["triangular", "tridiagonal", "program", "LU"],
)
def test_a_users_rule_may_solve_for_tangents(solution):
    a, b = made(positive(4, 4), (4, 2))

    @jax.custom_jvp
    def solved(b):
        return solution(a, b)

    solved.defjvp(lambda x, t: (solved(*x), solution(a, *t)))
    want = jax.grad(lambda b: total(solved(b)))(b)
    assert_same(fbp.grad(lambda b: total(solved(b)))(b), want, 32)


def test_what_a_solver_returns_beside_the_solution_has_no_gradient():
    a, b = made(dominant(3, 3), (3,))
    got = fbp.grad(lambda a: with_aux(a, b)[1][1])(a)
    np.testing.assert_array_equal(got, 0)


def test_a_solver_without_one_for_the_transpose_raises():
    a, b = made(dominant(3, 3), (3,))

    def one_way(b):
        return total(lax.custom_linear_solve(lambda x: a @ x, b, lambda _, b: b))

    with pytest.raises(TypeError, match="transpose_solve required for backwards mode"):
        fbp.grad(one_way)(b)
