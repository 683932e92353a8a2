"""Sparse arrays: derivatives of each primitive beside those of the dense array in its place."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental import sparse

import fbp

DENSE = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.0, 5.0]], np.float32)
V, U = np.array([0.3, -1.0, 2.0], np.float32), np.array([1.0, 0.5, -2.0, 0.25], np.float32)
W = np.arange(6, dtype=np.float32).reshape(3, 2) / 3 - 1
FORMATS = (sparse.BCOO, sparse.BCSR, sparse.COO, sparse.CSR, sparse.CSC)


@pytest.fixture(autouse=True)
def promotion():
    """The module's own code adds arrays of several ranks and integer dtypes."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def total(y):
    """A number of which every entry of y has another derivative."""
    return sum(
        jnp.sum(jnp.sin(leaf + jnp.arange(leaf.size, dtype=leaf.dtype).reshape(leaf.shape)))
        for leaf in jax.tree.leaves(y)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    )


def with_data(matrix, data):
    """The same matrix with other entries."""
    leaves, tree = jax.tree.flatten(matrix)
    return jax.tree.unflatten(tree, [data, *leaves[1:]])


def agrees(fun, *args, rtol=1e-6, reference=None):
    """Whether the gradient by fbp is JAX's, of the function or of a dense one."""
    nums = tuple(range(len(args)))
    both = jax.jit(lambda *xs: (fbp.grad(fun, nums)(*xs), jax.grad(reference or fun, nums)(*xs)))
    got, want = both(*args)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-6), got, want)


def product_agrees(matrix, x, view=lambda matrix: matrix):
    """Beside the product of the dense array: of a transposed CSR, JAX 0.10 has another gradient."""
    agrees(
        lambda d, x: total(view(with_data(matrix, d)) @ x),
        *(matrix.data, x),
        reference=lambda d, x: total(view(with_data(matrix, d).todense()) @ x),
        rtol=1e-5,
    )


@pytest.mark.parametrize("of", FORMATS)
def test_a_product_with_a_vector_is_differentiated_in_entries_and_vector(of):
    product_agrees(of.fromdense(DENSE), V)


@pytest.mark.parametrize("of", FORMATS)
def test_a_product_with_a_matrix_is_differentiated_in_entries_and_matrix(of):
    product_agrees(of.fromdense(DENSE), W)


@pytest.mark.parametrize("of", [f for f in FORMATS if f is not sparse.BCSR])
def test_a_transposed_product_is_differentiated(of):
    product_agrees(of.fromdense(DENSE), U, lambda matrix: matrix.T)


@pytest.mark.parametrize("of", FORMATS)
def test_entries_made_dense_have_the_cotangent_at_their_indices(of):
    matrix = of.fromdense(DENSE)
    got = fbp.grad(lambda d: jnp.sum(with_data(matrix, d).todense() * DENSE))(matrix.data)
    np.testing.assert_array_equal(with_data(matrix, got).todense(), DENSE)


@pytest.mark.parametrize("of", FORMATS[:4])
def test_a_dense_array_has_the_cotangent_of_its_entries(of):
    def loss(dense):
        return jnp.sum(of.fromdense(dense, nse=7).data ** 2)

    np.testing.assert_array_equal(fbp.grad(loss)(jnp.array(DENSE)), 2 * DENSE)


def test_padding_of_a_coordinate_list_gives_no_derivative():
    """JAX adds the cotangents of padded entries to the first one of the array."""
    from_dense = partial(sparse.COO.fromdense, nse=8)
    got = fbp.grad(lambda dense: jnp.sum(from_dense(dense).data))(jnp.array(DENSE))
    np.testing.assert_array_equal(got, DENSE != 0)


def test_entries_are_extracted_from_a_dense_array():
    for of, extract in ((sparse.BCOO, sparse.bcoo_extract), (sparse.BCSR, None)):
        matrix = of.fromdense(DENSE)
        if extract is None:
            agrees(lambda x, m=matrix: total(sparse.bcsr_extract(m.indices, m.indptr, x)), DENSE)
        else:
            agrees(lambda x, m=matrix, f=extract: total(f(m, x).data), DENSE)


def test_duplicate_entries_are_summed():
    indices = np.array([[0, 1], [2, 0], [0, 1]])

    def loss(data):
        matrix = sparse.BCOO((data, indices), shape=(3, 3))
        return total(matrix.sum_duplicates(nse=3).data) + total(matrix.todense())

    agrees(loss, np.array([1.0, 2.0, 3.0], np.float32))


OPERATIONS = {
    "transpose": lambda m: m.T,
    "sort_indices": lambda m: m.T.sort_indices(),
    "reduce_sum": lambda m: sparse.bcoo_reduce_sum(m, axes=(0,)),
    "broadcast_in_dim": lambda m: sparse.bcoo_broadcast_in_dim(
        m, shape=(2, 4, 3), broadcast_dimensions=(1, 2)
    ),
    "concatenate": lambda m: sparse.bcoo_concatenate([m, m], dimension=1),
    "slice": lambda m: sparse.bcoo_slice(m, start_indices=(0, 1), limit_indices=(3, 3)),
    "reshape": lambda m: sparse.bcoo_reshape(m, new_sizes=(2, 6)),
    "multiply_dense": lambda m: sparse.bcoo_multiply_dense(m, jnp.cos(DENSE)),
    "multiply_sparse": lambda m: sparse.bcoo_multiply_sparse(m, m),
    "update_layout": lambda m: m.update_layout(n_batch=1, on_inefficient=None),
    "rev": lambda m: sparse.bcoo_rev(m, dimensions=(0,)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_of_sparse_arrays_are_differentiated(name):
    matrix = sparse.BCOO.fromdense(DENSE)

    def loss(data):
        out = OPERATIONS[name](with_data(matrix, data))
        return total(out.todense() if isinstance(out, sparse.BCOO) else out)

    agrees(loss, matrix.data)


def test_a_product_of_two_sparse_arrays_is_differentiated():
    """JAX has no reverse mode for it."""
    matrix = sparse.BCOO.fromdense(DENSE)

    def dense(d):
        return total(with_data(matrix, d).todense().T @ with_data(matrix, d).todense())

    agrees(
        lambda d: total((with_data(matrix, d).T @ with_data(matrix, d)).todense()),
        matrix.data,
        reference=dense,
        rtol=1e-5,
    )


def test_a_product_at_sparse_indices_is_differentiated():
    indices = sparse.BCOO.fromdense(DENSE).indices
    product = partial(sparse.bcoo_dot_general_sampled, dimension_numbers=(((1,), (0,)), ((), ())))
    a = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
    agrees(lambda a, b: total(product(a, b, indices)), a, W.T.copy())


def test_sparsified_functions_are_differentiated():
    matrix = sparse.BCOO.fromdense(DENSE)
    layer = sparse.sparsify(lambda m, v: jnp.tanh(m @ v) + jnp.sum(m * 2.0))
    agrees(lambda d, v: total(layer(with_data(matrix, d), v)), matrix.data, V)


def solved(data, b, matrix):
    """The solution of a system in compressed rows."""
    return sparse.linalg.spsolve(data, matrix.indices, matrix.indptr, b)


def test_a_sparse_system_is_differentiated_in_entries_and_right_hand_side():
    dense = np.array([[4.0, 1.0, 0.0], [0.0, 3.0, 1.0], [2.0, 0.0, 5.0]], np.float32)
    matrix = sparse.CSR.fromdense(dense)
    got = jax.jit(fbp.grad(lambda d, b: total(solved(d, b, matrix)), (0, 1)))(matrix.data, V)
    want = jax.grad(lambda a, b: total(jnp.linalg.solve(a, b)), (0, 1))(jnp.array(dense), V)
    np.testing.assert_allclose(with_data(matrix, got[0]).todense(), want[0] * (dense != 0), 1e-5)
    np.testing.assert_allclose(got[1], want[1], 1e-5)


@pytest.mark.parametrize("around", ["jit", "vmap", "scan", "remat", "second order"])
def test_products_are_differentiated_within_transformations(around):
    matrix = sparse.BCOO.fromdense(DENSE)

    def loss(d, v):
        return total(with_data(matrix, d).T @ jnp.sin(with_data(matrix, d) @ v))

    def steps(d, v):
        matvec = lambda v, _: (jnp.tanh(with_data(matrix, d).T @ (with_data(matrix, d) @ v)), None)
        return total(jax.lax.scan(matvec, v, length=3)[0])

    by_each = {
        "jit": jax.jit(loss),
        "vmap": lambda d, v: jnp.sum(jax.vmap(loss, (None, 0))(d, jnp.stack([v, 2 * v]))),
        "scan": steps,
        "remat": jax.checkpoint(loss),
        "second order": lambda d, v: total(fbp.grad(loss, (0, 1))(d, v)),
    }
    agrees(by_each[around], matrix.data, V, rtol=1e-5)


@settings(max_examples=6)
@given(st.data())
def test_a_general_product_is_that_of_the_dense_array(data):
    """Any layout of batch, sparse and dense dimensions, summed over any of the first two."""
    shape, n_dense = (2, 3, 2), data.draw(st.integers(0, 1))
    n_batch = data.draw(st.integers(0, 2 - n_dense))
    sizes = dict(enumerate(shape[: 3 - n_dense]))
    contracted = data.draw(st.lists(st.sampled_from(sorted(sizes)), unique=True, max_size=2))
    others = [i for i in range(n_batch) if i not in contracted]
    batched = data.draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    rng = np.random.default_rng(0)
    dense = rng.normal(size=shape).astype(np.float32) * (rng.random(shape) > 0.4)
    matrix = sparse.BCOO.fromdense(dense, n_batch=n_batch, n_dense=n_dense)
    x = rng.normal(size=[shape[i] for i in (*batched, *contracted)] + [2]).astype(np.float32)
    of_x = tuple(range(len(batched))), tuple(range(len(batched), x.ndim - 1))
    numbers = ((tuple(contracted), of_x[1]), (tuple(batched), of_x[0]))

    def loss(d, x):
        return total(sparse.bcoo_dot_general(with_data(matrix, d), x, dimension_numbers=numbers))

    def plain(d, x):
        return total(jax.lax.dot_general(with_data(matrix, d).todense(), x, numbers))

    agrees(loss, matrix.data, x, reference=plain, rtol=2e-5)


def test_no_cotangent_is_as_large_as_the_dense_array():
    size, entries = 3000, 50
    indices = np.stack([np.arange(entries), np.arange(entries) * 7], 1)

    def loss(data, v):
        return jnp.sum((sparse.BCOO((data, indices), shape=(size, size)) @ v) ** 2)

    args = np.ones(entries, np.float32), np.ones(size, np.float32)
    compiled = jax.jit(fbp.grad(loss, (0, 1))).lower(*args).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 20 * size * 4
