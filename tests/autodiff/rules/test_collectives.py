import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import primitives as p
from jax.sharding import PartitionSpec as P

import fbp
from fbp.autodiff.rules import collectives
from fbp.autodiff.rules.collectives import RULES
from fbp.testing import Case
from tests.support.agreement import assert_agree, assert_same
from tests.support.table import check_covers, rule_tests

MEMBERS = 4
GROUPS = [[0, 2], [1, 3]]
MEMBERWISE = P("i")
RING = [(i, (i + 1) % MEMBERS) for i in range(MEMBERS)]
ONE_WAY = [(0, 2), (3, 1)]
RAGGED = np.arange(MEMBERS), np.ones(MEMBERS, int), np.arange(MEMBERS), np.ones(MEMBERS, int)


def mapped(fun, check_vma, out):
    """`fun` of sin(x) y on each of four devices."""
    mesh = jax.make_mesh((MEMBERS,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    return jax.shard_map(
        lambda x, y: fun(jnp.sin(x) * y),
        mesh=mesh,
        in_specs=(P("i"), P("i")),
        out_specs=out,
        check_vma=check_vma,
    )


def case(primitive, fun, shape=(8, 4), dtypes=("float32", "float64"), typed=False, out=MEMBERWISE):
    return Case(primitive, mapped(fun, typed, out), (shape, shape), dtypes, tolerance=8)


def typed(primitive, fun, out=MEMBERWISE, **options):
    return case(primitive, fun, typed=True, out=out, **options)


def unmapped(primitive, fun, out=MEMBERWISE):
    """A case for what JAX cannot vmap."""
    return Case(primitive, mapped(fun, True, out), ((8, 4),) * 2, ("float32",), 8, composed=False)


def invariant(x):
    return lax.psum(x, "i")


def reduced(x):
    return lax.pcast(invariant(x), "i", to="reduced")


def unreduced(x):
    return lax.pcast(x, "i", to="unreduced")


def ranked(x):
    return x * (1 + lax.axis_index("i")).astype(x.dtype)


def ranked_sum(x):
    return ranked(lax.psum(ranked(x), "i"))


ALL = ("float32", "float64", "bfloat16", "complex64", "complex128")
IN_GROUPS = {"axis_name": "i", "axis_index_groups": GROUPS}

WITHOUT_TYPES = [
    case(p.psum_p, ranked_sum, dtypes=ALL),
    case(p.psum_p, lambda x: ranked(lax.pmean(ranked(x), "i"))),
    case(p.psum_p, lambda x: ranked(lax.psum(ranked(x), **IN_GROUPS))),
    case(p.psum_p, jax.vmap(lambda x: lax.psum(ranked(x), ("i", "own")), axis_name="own")),
    case(p.ppermute_p, lambda x: lax.ppermute(x, "i", RING)),
    case(p.ppermute_p, lambda x: lax.ppermute(x, "i", ONE_WAY)),
    case(p.ppermute_p, lambda x: lax.pshuffle(x, "i", [2, 0, 3, 1])),
    case(p.all_gather_p, lambda x: ranked(lax.all_gather(x, "i")), dtypes=ALL),
    case(p.all_gather_p, lambda x: ranked(lax.all_gather(x, "i", axis=2))),
    case(p.all_gather_p, lambda x: ranked(lax.all_gather(x, "i", axis=1, tiled=True))),
    case(p.all_gather_p, lambda x: ranked(lax.all_gather(x, **IN_GROUPS, tiled=True))),
    case(collectives.reduce_scatter_p, lambda x: ranked(lax.psum_scatter(x.T, "i"))),
    case(
        collectives.reduce_scatter_p,
        lambda x: lax.psum_scatter(ranked(x), "i", scatter_dimension=1, tiled=True),
    ),
    case(
        collectives.reduce_scatter_p,
        lambda x: lax.psum_scatter(ranked(x), scatter_dimension=1, tiled=True, **IN_GROUPS),
    ),
    case(p.all_to_all_p, lambda x: lax.all_to_all(ranked(x), "i", 1, 0, tiled=True)),
    case(p.all_to_all_p, lambda x: lax.all_to_all(ranked(x), "i", 1, 1, tiled=True)),
    case(p.all_to_all_p, lambda x: lax.all_to_all(ranked(x.T), "i", 0, 0)),
    case(p.all_to_all_p, lambda x: lax.pswapaxes(ranked(x), "i", 1)),
    case(p.axis_index_p, ranked),
]
WITH_TYPES = [
    typed(collectives.psum_invariant_p, invariant, P()),
    typed(collectives.psum_invariant_p, ranked_sum),
    typed(collectives.pvary_p, ranked_sum, dtypes=ALL),
    typed(p.ppermute_p, lambda x: lax.ppermute(x, "i", RING)),
    typed(p.all_gather_p, lambda x: ranked(lax.all_gather(x, "i"))),
    typed(p.all_to_all_p, lambda x: lax.all_to_all(ranked(x), "i", 1, 0, tiled=True)),
    typed(
        collectives.all_gather_invariant_p, lambda x: lax.all_gather(x, "i", to="invarying"), P()
    ),
    typed(
        collectives.all_gather_invariant_p,
        lambda x: lax.all_gather(x, "i", axis=1, tiled=True, to="invarying"),
        P(),
    ),
]
NOT_MAPPED_IN_JAX = [
    unmapped(collectives.unreduced_psum_p, lambda x: lax.psum(unreduced(x), "i"), P()),
    unmapped(collectives.vary_unreduced_cast_p, lambda x: lax.psum(unreduced(ranked(x)), "i"), P()),
    unmapped(
        collectives.unreduced_reduce_scatter_p,
        lambda x: lax.psum_scatter(unreduced(x), "i", scatter_dimension=1, tiled=True),
    ),
    unmapped(
        collectives.all_gather_reduced_p,
        lambda x: ranked(lax.pcast(lax.all_gather(x, "i", to="reduced"), "i", to="varying")),
    ),
    unmapped(collectives.preduced_p, lambda x: ranked(lax.pcast(reduced(x), "i", to="varying"))),
    unmapped(
        collectives.reduced_vary_cast_p, lambda x: ranked(lax.pcast(reduced(x), "i", to="varying"))
    ),
]
CASES = [*WITHOUT_TYPES, *WITH_TYPES, *NOT_MAPPED_IN_JAX]
NOT_ON_CPU = [
    case(collectives.pbroadcast_p, lambda x: lax.pbroadcast(x, "i", 2)),
    Case(
        p.ragged_all_to_all_p,
        mapped(lambda x: lax.ragged_all_to_all(x, x, *RAGGED, axis_name="i"), False, P("i")),
        ((8, 4), (8, 4)),
    ),
]


TestRules = rule_tests(RULES, CASES, without=tuple(case.primitive for case in NOT_ON_CPU))


def test_what_a_cpu_lacks_is_bound_by_its_functions():
    check_covers([case.primitive for case in NOT_ON_CPU], NOT_ON_CPU)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: lax.psum(ranked(x), "i"),
        lambda x: lax.pmean(ranked(x), "i"),
        lambda x: ranked(lax.psum(1.0, "i") * x),
        lambda x: lax.ppermute(x, "i", RING),
        lambda x: lax.pshuffle(x, "i", [2, 0, 3, 1]),
        lambda x: ranked(lax.all_gather(x, "i")),
        lambda x: ranked(lax.all_gather(x, "i", axis=1, tiled=True)),
        lambda x: lax.psum_scatter(ranked(x), "i", scatter_dimension=1),
        lambda x: lax.psum_scatter(ranked(x), "i", scatter_dimension=1, tiled=True),
        lambda x: lax.all_to_all(ranked(x), "i", 1, 1, tiled=True),
    ],
)
@pytest.mark.parametrize("where", ["within the axis", "outside of it"])
def test_a_gradient_through_the_members_of_a_vmap(fun, where):
    def loss(x):
        y = fun(jnp.sin(x))
        return jnp.sum(jnp.sin(y) * jnp.arange(y.size, dtype=y.dtype).reshape(y.shape))

    def gradient(library):
        if where == "within the axis":
            return jax.vmap(library.grad(loss), axis_name="i")
        return library.grad(lambda x: jnp.sum(jax.vmap(loss, axis_name="i")(x)))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(MEMBERS, 3, MEMBERS)), "float32")
    assert_agree(gradient(fbp), gradient(jax), x, tolerance=8)


@pytest.mark.parametrize("axes", [(1, 0), (0, 1), (2, 0)])
def test_an_exchange_of_whole_axes_goes_back_though_jax_raises(axes):
    def member(x):
        return jnp.sum(jnp.sin(lax.all_to_all(ranked(x), "i", *axes)))

    def together(x):
        return jnp.sum(jax.vmap(member, axis_name="i")(x))

    x = jnp.asarray(np.random.default_rng(0).normal(size=(MEMBERS, MEMBERS, MEMBERS, MEMBERS)))
    assert_agree(jax.vmap(fbp.grad(member), axis_name="i"), jax.grad(together), x)
    with pytest.raises(ValueError, match="cotangent type"):
        jax.vmap(jax.grad(member), axis_name="i")(x[:, :, :3] if axes[0] != 1 else x[:, :3])


@pytest.mark.parametrize("collective", [lax.pmax, lax.pmin])
def test_the_largest_of_the_members_has_no_rule_as_in_jax(collective):
    def gradient(library):
        return jax.vmap(library.grad(lambda x: collective(x, "i")), axis_name="i")

    for library in (fbp, jax):
        with pytest.raises(NotImplementedError, match="pm"):
            gradient(library)(jnp.arange(3.0))


def test_what_all_have_from_one_member_goes_back_to_it():
    x, ct = jnp.arange(12.0).reshape(MEMBERS, 3), jnp.ones((MEMBERS, 3))

    def from_member_two(x):
        return lax.all_gather(x, "i")[2]

    want = jax.vjp(jax.vmap(from_member_two, axis_name="i"), x)[1](ct)[0]
    back = jax.vmap(
        lambda ct: collectives.to_source(ct, None, axis_name="i", source=2), axis_name="i"
    )
    assert_same(back(ct), want)


def exchange_ragged(operand, output, starts, sizes, targets, _, *, axis_name, **_groups):
    """`lax.ragged_all_to_all` from its definition, in dense operations."""
    gathered = [lax.all_gather(x, axis_name) for x in (operand, starts, sizes, targets)]
    me = lax.axis_index(axis_name)
    row = jnp.arange(output.shape[0])
    for rows, start, size, target in zip(*gathered, strict=True):
        offset = row - target[me]
        inside = (offset >= 0) & (offset < size[me])
        moved = rows[jnp.clip(offset + start[me], 0, len(rows) - 1)]
        output = jnp.where(inside[:, None], moved, output)
    return output


def test_a_ragged_exchange_goes_back(monkeypatch):
    sizes = jnp.array([[1, 2], [2, 0]])
    starts = jnp.array([[0, 1], [1, 3]])
    received = sizes.T
    targets = jnp.array([[0, 1], [2, 4]])
    rng = np.random.default_rng(0)
    x, y, ct = (jnp.asarray(rng.normal(size=(2, n, 3)), "float32") for n in (4, 5, 5))
    members = jax.vmap(lambda *args: exchange_ragged(*args, axis_name="i"), axis_name="i")

    @jax.jit
    def expected(x, y, ct):
        return jax.vjp(lambda x, y: members(x, y, starts, sizes, targets, received), x, y)[1](ct)

    monkeypatch.setattr(lax, "ragged_all_to_all", exchange_ragged)

    def back(ct, *ins):
        return collectives.exchange_ragged_back(
            [ct], None, ins, (True, True), axis_name="i", axis_index_groups=None
        )[:2]

    got = jax.jit(jax.vmap(back, axis_name="i"))(ct, x, y, starts, sizes, targets, received)
    assert_same(tuple(got), expected(x, y, ct))
