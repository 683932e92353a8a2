"""fwd_and_bwd, and pullbacks that do not keep their arguments: as JAX documents them."""

import jax
import jax.numpy as jnp
import pytest

import fbp
from fbp.autodiff.compat import NotNeeded, NotSaveable
from tests.support.agreement import assert_same

X = jnp.array([0.5, -1.0, 2.0])
PARAMS = {"w": X + 1, "b": X * 2}
has_saveable_args = pytest.mark.skipif(NotSaveable is None, reason="JAX's vjp has no saveable_args")


def model(params, x):
    return jnp.tanh(x * params["w"]) * x + params["b"]


# Forward and backward apart


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("argnums", [0, (1, 0), [0]])
def test_fwd_and_bwd_are_jaxs(argnums, jitted):
    def apart(library):
        fwd, bwd = library.fwd_and_bwd(model, argnums, jitted=jitted)
        y, residuals = fwd(PARAMS, X)
        return y, bwd(residuals, jnp.ones(3))

    assert_same(apart(fbp), apart(jax), tolerance=8)


def test_fwd_and_bwd_return_aux():
    fwd, bwd = fbp.fwd_and_bwd(lambda x: (jnp.sin(x), {"n": 3, "x": x}), 0, has_aux=True)
    y, residuals, aux = fwd(X)
    assert_same((y, aux["x"]), (jnp.sin(X), X))
    assert int(aux["n"]) == 3
    assert_same(bwd(residuals, jnp.ones(3)), jnp.cos(X))


def test_each_half_is_compiled_once():
    traces = []

    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    def bwd_of_sine(x, ct):
        traces.append("bwd")
        return (ct * jnp.cos(x),)

    sine.defvjp(lambda x: (sine(x), x), bwd_of_sine)

    def fun(x, scale=1.0):
        traces.append("fwd")
        return sine(x) * scale

    fwd, bwd = fbp.fwd_and_bwd(fun, 0)
    for i in range(3):
        _, residuals = fwd(X + i, scale=2.0)
        assert_same(bwd(residuals, jnp.ones(3)), 2 * jnp.cos(X + i))
    assert traces == ["fwd", "bwd"]


def test_fwd_and_bwd_refuse_what_jax_refuses():
    for library in (fbp, jax):
        with pytest.raises(TypeError):
            library.fwd_and_bwd(3, 0)
        with pytest.raises(TypeError):
            library.fwd_and_bwd(model, "x")


# Arguments that are not saved


@has_saveable_args
@pytest.mark.parametrize(
    "saveable", [False, (False, True), ({"w": False, "b": False}, False), ((True, False), False)]
)
def test_the_caller_gives_back_what_is_not_saved(saveable):
    """Dictionaries are matched by the number of their children, by a tuple too."""

    def pulled(library):
        y, pullback = library.vjp(model, PARAMS, X, saveable_args=saveable)
        kept = [x.shape for x in jax.tree.leaves(pullback)]
        kinds = jax.tree.map(
            type, pullback.args_res, is_leaf=lambda x: not isinstance(x, list | dict)
        )
        pullback.args_res = [PARAMS, X]
        return kinds, (y, pullback(jnp.ones(3))), kept

    (kinds, got, kept), (kinds_of_jax, want, _) = pulled(fbp), pulled(jax)
    assert kinds == kinds_of_jax
    assert_same(got, want, tolerance=8)
    _, whole = fbp.vjp(model, PARAMS, X)
    assert len(kept) < len(jax.tree.leaves(whole))


@has_saveable_args
def test_a_pullback_without_its_arguments_says_which():
    _, pullback = fbp.vjp(model, PARAMS, X, saveable_args=(True, False))
    with pytest.raises(ValueError, match=r"assign them to its args_res.*args\[1\]"):
        pullback(jnp.ones(3))
    assert isinstance(pullback.args_res[0]["b"], NotNeeded)
    with pytest.raises(ValueError, match="has 3 leaves"):
        pullback.args_res = [X]


@has_saveable_args
def test_it_passes_through_jit_without_its_arguments():
    make = jax.jit(lambda p, x: fbp.vjp(model, p, x, saveable_args=False)[1])
    pullback = make(PARAMS, X)

    @jax.jit
    def run(pullback, params, x, ct):
        pullback.args_res = [params, x]
        return pullback(ct)

    want = jax.vjp(model, PARAMS, X)[1](jnp.ones(3))
    assert_same(run(pullback, PARAMS, X, jnp.ones(3)), want, tolerance=8)


@has_saveable_args
@pytest.mark.parametrize("saveable", [(True,), (True, (False, True)), "yes", ((True,), True)])
def test_flags_that_are_no_prefix_are_refused(saveable):
    for library in (jax, fbp):
        with pytest.raises(ValueError, match="saveable_args"):
            library.vjp(model, PARAMS, X, saveable_args=saveable)


@pytest.mark.skipif(NotSaveable is not None, reason="JAX's vjp has saveable_args")
def test_a_jax_without_saveable_args_is_said():
    with pytest.raises(TypeError, match="saveable_args needs a JAX"):
        fbp.vjp(model, PARAMS, X, saveable_args=False)
