"""grad, value_and_grad and vjp answer as JAX's do, for every way of calling them."""

import functools
import gc
import re
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fbp
from tests.support.agreement import assert_grad, assert_same, total

X = jnp.array([0.5, -1.0, 2.0])
NO_VALUES = "Under jax.jit there are no values"


def product(x, y, z):
    return jnp.sum(jnp.sin(x) * y) * z


# Which arguments


@pytest.mark.parametrize("argnums", [0, 1, 2, -1, -3, (0,), (2, 0), (-1, 0), [0, 1], np.int64(1)])
def test_argnums_choose_the_arguments_and_the_shape_of_the_answer(argnums):
    assert_grad(product, X, X + 1, jnp.float32(3.0), argnums=argnums)


def test_no_argnums_give_no_gradients():
    assert fbp.grad(product, argnums=())(X, X, 1.0) == ()


def test_grad_is_the_second_part_of_value_and_grad():
    value, gradient = fbp.value_and_grad(product)(X, X, 2.0)
    assert_same(fbp.grad(product)(X, X, 2.0), gradient, tolerance=0)
    assert_same(value, product(X, X, 2.0))


def test_keyword_arguments_are_passed_on():
    def scaled(x, *, by, mode):
        return total(x) * by if mode == "sum" else by

    got = fbp.grad(scaled)(X, by=jnp.float32(2.0), mode="sum")
    assert_same(got, jax.grad(scaled)(X, by=jnp.float32(2.0), mode="sum"))


def test_other_arguments_need_not_be_arrays():
    def loss(x, activation, scale, name, nothing):
        assert name == "tanh"
        assert nothing is None
        return jnp.sum(activation(x)) * scale["by"]

    assert_grad(lambda x: loss(x, jnp.tanh, {"by": 2.0}, "tanh", None), X)
    got = fbp.grad(loss)(X, jnp.tanh, {"by": 2.0}, "tanh", None)
    assert_same(got, jax.grad(loss)(X, jnp.tanh, {"by": 2.0}, "tanh", None))


def test_the_gradient_carries_the_name_of_its_function():
    assert fbp.grad(product).__name__ == "product"
    assert fbp.value_and_grad(product).__wrapped__ is product


def test_callable_objects_and_partials_are_functions():
    class Model:
        def __call__(self, x):
            return total(x)

    assert_grad(Model(), X)
    assert_grad(functools.partial(product, X), X, jnp.float32(2.0))
    assert_grad(jnp.dot, X, X, argnums=(0, 1))


# Trees


@pytest.mark.parametrize(
    "tree",
    [
        {"w": X, "b": jnp.float32(2.0)},
        [X, (X, {"deep": X})],
        (X, None, ()),
        {"scalar": 1.0, "numpy": np.array([1.0, 2.0])},
    ],
    ids=["dict", "nested", "none", "numbers"],
)
def test_the_gradient_has_the_tree_of_the_argument(tree):
    assert_grad(lambda tree: total(jax.tree.map(jnp.asarray, tree)), tree)


@pytest.mark.parametrize("tree", [{}, (), None, [None]], ids=str)
def test_the_gradient_of_an_empty_tree_is_empty(tree):
    assert_same(fbp.grad(lambda _: jnp.float32(1.0))(tree), tree)


def test_registered_nodes_are_rebuilt():
    point = jax.tree_util.Partial(jnp.multiply, X)
    got = fbp.grad(lambda p: total(p(2.0)))(point)
    assert isinstance(got, jax.tree_util.Partial)
    assert_same(got.args, jax.grad(lambda p: total(p(2.0)))(point).args)


# What depends on what


def test_an_unused_argument_has_gradient_zero():
    assert_grad(lambda x, y: total(x), X, jnp.ones((2, 2)), argnums=(0, 1))


def test_a_constant_function_has_gradient_zero():
    assert_grad(lambda x: jnp.float32(2.0), X)
    assert_grad(lambda x: 2.0, X)
    assert_grad(lambda x: np.float32(2.0), X)


def test_the_identity_has_gradient_one():
    assert_grad(lambda x: x, 3.0)
    assert_grad(lambda x: x, jnp.float32(3.0))


def test_one_array_given_twice_has_two_gradients():
    assert_grad(lambda x, y: total(x * x * y), X, X, argnums=(0, 1))


def test_a_value_used_many_times_adds_its_cotangents():
    assert_grad(lambda x: total(x) + total(x) * total(x * x) + x[0], X)


def test_an_output_returned_twice_gets_both_cotangents():
    _, pullback = fbp.vjp(lambda x: (x, jnp.sin(x), x), 2.0)
    assert_same(
        pullback((1.0, 2.0, 3.0)), jax.vjp(lambda x: (x, jnp.sin(x), x), 2.0)[1]((1.0, 2.0, 3.0))
    )


def test_stop_gradient_stops_it():
    assert_grad(lambda x: total(x * lax.stop_gradient(x)), X)
    assert_grad(lambda x: total(lax.stop_gradient(x)), X)


# Closures


def test_closed_over_arrays_are_constants():
    w, table = X * 3, np.arange(3, dtype=np.float32)
    assert_grad(lambda x: total(w * x + table), X)


def test_closed_over_tracers_of_jit_vmap_and_jvp_are_constants():
    def through(library, y):
        return library.grad(lambda x: total(jnp.sin(x) * y * jnp.tanh(y)))(X)

    mine, theirs = (functools.partial(through, library) for library in (fbp, jax))
    ys = jnp.stack([X, X + 1])
    assert_same(jax.jit(mine)(X), jax.jit(theirs)(X))
    assert_same(jax.vmap(mine)(ys), jax.vmap(theirs)(ys))
    assert_same(jax.jvp(mine, (X,), (X,)), jax.jvp(theirs, (X,), (X,)))


def test_closed_over_tracers_of_scan_are_constants():
    def descend(library, x):
        def step(x, y):
            return x - 0.1 * library.grad(lambda x: total(x * y))(x), total(y)

        return lax.scan(step, x, jnp.stack([X, X + 1]))

    assert_same(descend(fbp, X), descend(jax, X))


def test_closed_over_tracers_of_an_outer_gradient_are_differentiated():
    def outer(library, y):
        return total(library.grad(lambda x: total(x * jnp.sin(y)) * total(y))(X))

    want = jax.grad(functools.partial(outer, jax))(X)
    assert_same(fbp.grad(functools.partial(outer, fbp))(X), want)


def test_a_gradient_keeps_nothing_alive():
    class Data(np.ndarray):
        pass

    data = np.ones(3, np.float32).view(Data)
    batch = jnp.array(data)
    alive = weakref.ref(batch)

    def loss(x, batch):
        return jnp.sum(jax.jit(lambda x: x * batch)(x)) + jnp.sum(x * batch)

    fbp.grad(functools.partial(loss, batch=batch))(X)
    del batch
    gc.collect()
    assert alive() is None


def test_no_tracer_leaks():
    with jax.checking_leaks():
        jax.jit(lambda y: fbp.grad(lambda x: total(jax.jit(jnp.sin)(x) * y))(X))(X)


# Dtypes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "complex64"])
def test_a_gradient_has_the_dtype_of_its_argument(dtype):
    x = X.astype(dtype)
    assert_grad(lambda x: jnp.sum(jnp.real(x * x).astype(jnp.float32)), x)


def test_a_gradient_is_weakly_typed_as_its_argument_is():
    y = np.float32(2.0)
    for fun in (lambda x: x * x, lambda x: x * y, lambda x: jnp.sum(X * x), lambda x: y):
        assert_grad(fun, 1.5)
        assert_grad(fun, jnp.float32(1.5))


def test_mixed_precision_keeps_each_dtype():
    params = {"w": X, "b": X.astype(jnp.bfloat16)}

    def loss(params):
        y = params["w"].astype(jnp.bfloat16) * params["b"]
        return jnp.sum(y.astype(jnp.float32) ** 2)

    assert_grad(loss, params)


def test_numpy_numbers_are_numbers():
    assert_grad(lambda x: x * x, np.float32(2.0))
    assert_grad(lambda x: jnp.sum(x * x), np.arange(3.0, dtype=np.float32))


@pytest.mark.usefixtures("x64")
def test_doubles_stay_doubles():
    assert_grad(product, *map(jnp.float64, (0.5, 1.5, 2.5)), argnums=(0, 1, 2))
    assert_grad(lambda x: total(x), np.arange(3.0))
    assert_grad(lambda x: x * x, 2.0)
    assert fbp.grad(lambda x: x * x)(jnp.float32(2.0)).dtype == jnp.float32


def test_integers_have_float0_gradients_when_allowed():
    params = {"w": X, "n": 2, "mask": np.array([True, False, True]), "ids": jnp.arange(3)}

    def loss(params):
        return jnp.sum(params["w"] * params["ids"].astype(jnp.float32)) * params["n"]

    assert_grad(loss, params, allow_int=True)


def test_keys_have_float0_gradients_when_allowed():
    got = fbp.grad(lambda k, s: s * jax.random.normal(k), (0, 1), allow_int=True)(
        jax.random.key(0), 2.0
    )
    want = jax.grad(lambda k, s: s * jax.random.normal(k), (0, 1), allow_int=True)(
        jax.random.key(0), 2.0
    )
    assert_same(got, want)


def test_complex_arguments_follow_jaxs_convention():
    z = jnp.array([1.0 + 2.0j, -0.5j])
    assert_grad(lambda z: jnp.sum(jnp.real(z * z * jnp.conj(z))), z)
    assert_grad(lambda z: jnp.sum(jnp.abs(z) + jnp.imag(z)), z)


def test_holomorphic_functions_have_complex_derivatives():
    assert_grad(lambda z: z * z * z + jnp.sin(z), jnp.complex64(1 + 2j), holomorphic=True)
    assert_grad(lambda z: z * z, 1.0 + 2.0j, holomorphic=True)


# Auxiliary output


def aux_loss(x):
    aux = {"array": x * 2, "number": 2.5, "text": "abc", "numpy": np.ones(2), "fun": jnp.sin}
    return total(x), (aux, None, X)


def test_aux_is_returned_beside_the_gradient():
    gradient, (aux, nothing, constant) = fbp.grad(aux_loss, has_aux=True)(X)
    assert_same(gradient, jax.grad(aux_loss, has_aux=True)(X)[0])
    assert_same((aux["array"], constant), (X * 2, X))
    assert nothing is None


def test_aux_that_is_no_jax_array_is_returned_as_it_is():
    (_, (aux, _, _)), _ = fbp.value_and_grad(aux_loss, has_aux=True)(X)
    assert type(aux["number"]) is float
    assert type(aux["numpy"]) is np.ndarray
    assert (aux["text"], aux["fun"]) == ("abc", jnp.sin)


def test_aux_has_no_gradient_but_passes_through_outer_ones():
    def outer(library, x):
        gradient, aux = library.grad(lambda x: (total(x), jnp.sin(x)), has_aux=True)(x)
        return total(gradient) + total(aux)

    want = jax.grad(functools.partial(outer, jax))(X)
    assert_same(fbp.grad(functools.partial(outer, fbp))(X), want)


def test_aux_may_close_over_tracers():
    def run(library):
        def f(y):
            return library.value_and_grad(lambda x: (total(x), (y, y * x)), has_aux=True)(X)

        return jax.jit(f)(X)

    assert_same(run(fbp), run(jax))


def test_vjp_returns_aux_last():
    value, pullback, aux = fbp.vjp(lambda x: (x * x, {"x": x, "s": "abc"}), 3.0, has_aux=True)
    assert (float(value), float(aux["x"]), aux["s"]) == (9.0, 3.0, "abc")
    assert_same(pullback(2.0), jax.vjp(lambda x: x * x, 3.0)[1](2.0))


# Errors


def raises_as_jax(call):
    """The exceptions of fbp and JAX have one type; fbp's message."""
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        call(jax)
    with pytest.raises(Exception) as mine:  # noqa: PT011
        call(fbp)
    assert isinstance(theirs.value, mine.type)
    return str(mine.value)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: m.grad(lambda x: x)(X), r"scalar-output functions. Output had shape: \(3,\)"),
        (lambda m: m.grad(lambda x: (x, x))(1.0), "scalar-output functions. Output was"),
        (lambda m: m.grad(lambda x: [x])(1.0), "scalar-output functions. Output was"),
        (lambda m: m.grad(lambda x: None)(1.0), "scalar-output functions. Output was"),
        (lambda m: m.grad(lambda x: "text")(1.0), "not a valid JAX type"),
        (lambda m: m.grad(lambda x: x)(1), "real- or complex-valued inputs .* but got int32"),
        (lambda m: m.grad(lambda t: t[0])((1.0, X > 0)), r"but got bool.* argument \[0\]\[1\]"),
        (lambda m: m.grad(lambda x: x)(jax.random.key(0)), "but got key<fry>"),
        (lambda m: m.grad(lambda x: 3)(1.0), "real-valued outputs .* but got int32"),
        (lambda m: m.grad(lambda x: x * 1j)(1.0), "but got complex64. For holomorphic"),
        (lambda m: m.grad(lambda x: x, holomorphic=True)(1.0), "inputs with complex dtype"),
        (lambda m: m.grad(jnp.real, holomorphic=True)(1j), "outputs with complex dtype"),
        (lambda m: m.grad(lambda x: x)("text"), "Argument 'text' of type <class 'str'> is not"),
        (lambda m: m.grad(lambda x: x, 2)(1.0), "argnums=2 requires at least 3 positional"),
        (lambda m: m.grad(lambda x: x, (0, 1))(1.0), r"argnums=\(0, 1\) requires at least 2"),
        (lambda m: m.grad(lambda x: x)(x=1.0), "at least 1 positional .* got only 0 .* Keyword"),
        (lambda m: m.grad(lambda x: x, "one"), "cannot be interpreted as an integer"),
        (lambda m: m.grad(3), "Expected a callable value, got 3"),
        (lambda m: m.vjp(3, 1.0), "Expected a callable value, got 3"),
        (lambda m: m.grad(lambda x: x, has_aux=True)(1.0), "two-element tuple"),
        (lambda m: m.grad(lambda x: (x, x, x), has_aux=True)(1.0), "two-element tuple"),
        (lambda m: m.grad(lambda x: (X * x, x), has_aux=True)(1.0), "Output had shape"),
    ],
)
def test_a_wrong_call_is_a_type_error_with_jaxs_words(call, text):
    message = raises_as_jax(call)
    assert re.search(text, message), message


def test_negative_argnums_out_of_range_say_how_many_are_needed():
    with pytest.raises(TypeError, match=r"argnums=-2 requires at least 2 positional"):
        fbp.grad(lambda x: x, argnums=-2)(1.0)


@pytest.mark.parametrize("argnums", [(0, 0), (0, -2)])
def test_an_argument_named_twice_is_an_error(argnums):
    with pytest.raises(ValueError, match="names an argument twice"):
        fbp.grad(lambda x, y: x * y, argnums=argnums)(1.0, 2.0)


def test_vjp_names_the_leaf_that_is_no_array():
    with pytest.raises(TypeError, match=r"'text' of type .* argument \[1\]\['a'\]"):
        fbp.vjp(lambda x, y: x, 1.0, {"a": "text"})


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: x if x > 0 else -x,
        lambda x: float(x),
        lambda x: np.sin(x),
        lambda x: jnp.sum(X[x < X]),
        lambda x: [x, x][x.astype(int)],
    ],
    ids=["if", "float", "numpy", "mask", "index"],
)
def test_python_control_flow_under_jit_says_what_to_use(fun):
    with pytest.raises(Exception) as error:  # noqa: PT011
        jax.jit(fbp.grad(fun))(2.0)
    assert any(NO_VALUES in note for note in error.value.__notes__)


def test_an_error_while_tracing_names_the_users_function():
    def absolute(x):
        return x if x > 0 else -x

    with pytest.raises(
        jax.errors.TracerBoolConversionError, match=r"absolute at .*test_transforms"
    ):
        jax.jit(fbp.grad(absolute))(2.0)


def test_the_users_own_error_comes_through():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fbp.grad(broken)(1.0)


# Effects and scopes


def test_effects_happen_once(capsys):
    def loss(x):
        jax.debug.print("x = {}", x[0])
        return total(x)

    gradient = fbp.grad(loss)(X)
    jax.effects_barrier()
    assert capsys.readouterr().out == "x = 0.5\n"
    assert_same(gradient, jax.grad(total)(X))


def test_named_scopes_and_lines_survive_in_both_directions():
    def loss(x):
        with jax.named_scope("head"):
            return jnp.sum(jnp.sin(x))

    jaxpr = jax.make_jaxpr(fbp.grad(loss))(X)
    stacks = {str(eqn.primitive): str(eqn.source_info.name_stack) for eqn in jaxpr.eqns}
    assert stacks["sin"] == "head" if "sin" in stacks else True
    assert stacks["cos"].startswith("head")
    assert stacks["mul"] == "head/backward"
