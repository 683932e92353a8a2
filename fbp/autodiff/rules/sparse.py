"""Sparse arrays of `jax.experimental.sparse`: a primitive is differentiated by its definition.

An array is a list of entries with their indices. Each format is defined by BCOO, with other
indices, and BCOO by gather, scatter, sums and products, which have rules:

    todense:      A[i_k] += d_k                     extract:  d_k = A[i_k]
    dot_general:  y[out(i_k)] += d_k x[in(i_k)]     spsolve:  A(d) x = b

The primitive itself runs forward, its definition backward, so that no cotangent is as large as the
dense array unless that is an operand or a result. `jax.experimental.sparse` takes a quarter of
a second to import: a rule is made when a program first contains the primitive.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive

from fbp.autodiff.activity import perturbed_outputs
from fbp.autodiff.backprop import forward
from fbp.autodiff.graph import Graph, JaxprEqn, stage
from fbp.autodiff.interpret import apply_primitive
from fbp.autodiff.rule import Applied, Call, Rule, Rules, call, vjp_jointly
from fbp.autodiff.undefined import UndefinedPrimal

Definition = Callable[..., Any]


def by_definition(primitive: Primitive, definition: Definition | None = None) -> Rule:
    """Define a primitive by a function, by default its implementation in JAX."""
    define = primitive.impl if definition is None else definition

    def program(eqn: JaxprEqn) -> Graph:
        def outputs(*operands: Any) -> Sequence[Any]:
            outs = define(*operands, **eqn.params)
            return outs if primitive.multiple_results else [outs]

        return stage(outputs, *(v.aval for v in eqn.invars))[0]

    def apply(call: Call, ins: list[Any]) -> Applied:
        outs, pullback = forward(call.rules, program(call.eqn), ins, call.needs_ct, call.has_out_ct)
        if any(isinstance(x, UndefinedPrimal) for x in ins):
            return outs, pullback
        return apply_primitive(call.eqn, ins), pullback

    def activity(eqn: JaxprEqn, rules: Rules, needs_ct: tuple[bool, ...]) -> Sequence[bool]:
        return perturbed_outputs(program(eqn), rules, needs_ct)

    return call(primitive, apply, activity)


def _bcoo(name: str, *operands: Any, **params: Any) -> Any:
    from jax.experimental import sparse

    return getattr(sparse, f"bcoo_{name}_p").bind(*operands, **params)


def _described(shape: Sequence[int]) -> Any:
    """Return the description of an array of this shape, as BCOO's primitives take it."""
    from jax.experimental import sparse

    nothing = jnp.zeros(0), jnp.zeros((0, len(shape)), int)
    return sparse.BCOO(nothing, shape=tuple(shape))._info


def _pairs(row: Any, column: Any) -> Any:
    return jnp.stack([row, column], axis=-1)


def _row_pairs(indices: Any, indptr: Any) -> Any:
    """Return the indices of entries of which those of row i start at indptr[i]."""
    nse = indices.shape[-1]
    rows = partial(jnp.searchsorted, side="right")
    row = jnp.vectorize(rows, signature="(n),(k)->(k)")(indptr, jnp.arange(nse, dtype=indptr.dtype))
    return _pairs(lax.convert_element_type(row, indices.dtype) - 1, indices)


def product(
    data: Any,
    indices: Any,
    x: Any,
    *,
    dimension_numbers: Any,
    preferred_element_type: Any,
    lhs_spinfo: Any,
) -> Any:
    """Return y[out(i_k)] += d_k x[in(i_k)]: the contracted part of each entry's index says where x
    is read, the rest where it is added."""
    (contracted, with_contracted), (batched, with_batched) = dimension_numbers
    num_batch, num_indexed = indices.ndim - 2, indices.ndim - 2 + indices.shape[-1]
    shape = (*lhs_spinfo.shape[:num_batch], data.shape[num_batch])
    grid = jnp.meshgrid(*map(jnp.arange, shape), indexing="ij")
    indices = jnp.broadcast_to(indices, (*shape, indices.shape[-1]))
    data = jnp.broadcast_to(data, (*shape, *data.shape[num_batch + 1 :]))
    index = [*grid[:num_batch], *(indices[..., i] for i in range(indices.shape[-1]))]

    paired = (*with_batched, *with_contracted)
    rest = [i for i in range(x.ndim) if i not in paired]
    read_at = tuple(index[i] for i in (*batched, *contracted))
    x = lax.transpose(x, (*paired, *rest))
    read = x.at[read_at].get(mode="fill", fill_value=0) if read_at else x
    num_dense, missing = data.ndim - len(shape), 0 if read_at else len(shape)
    read = lax.expand_dims(read, range(missing))
    read = lax.expand_dims(read, range(len(shape), len(shape) + num_dense))
    terms = lax.expand_dims(data, range(data.ndim, data.ndim + len(rest))) * read

    free = [i for i in range(num_indexed) if i not in (*batched, *contracted)]
    out_shape = [lhs_spinfo.shape[i] for i in (*batched, *free)]
    out_type = preferred_element_type or terms.dtype
    terms = lax.convert_element_type(terms, out_type)
    out = jnp.zeros((*out_shape, *terms.shape[len(shape) :]), out_type)
    added_at = tuple(index[i] for i in (*batched, *free))
    return out.at[added_at].add(terms) if added_at else out + terms.sum(tuple(range(len(shape))))


def _coo_product(data: Any, pairs: Any, x: Any, shape: Sequence[int], transpose: bool) -> Any:
    return _bcoo(
        "dot_general",
        *(data, pairs, x),
        dimension_numbers=(((0,) if transpose else (1,), (0,)), ((), ())),
        preferred_element_type=None,
        lhs_spinfo=_described(shape),
    )


def _entries(mat: Any, *, nse: int, n_batch: int = 0, n_dense: int = 0, index_dtype: Any) -> Any:
    """Return the nonzero entries, and their indices, which carry no derivative."""
    options = {"nse": nse, "n_batch": n_batch, "n_dense": n_dense, "index_dtype": index_dtype}
    return _bcoo("fromdense", mat, **options)


def _coo_entries(mat: Any, **params: Any) -> Any:
    data, pairs = _entries(mat, **params)
    return data, pairs[..., 0], pairs[..., 1]


def _csr_entries(mat: Any, *, n_batch: int = 0, index_dtype: Any, **params: Any) -> Any:
    data, pairs = _entries(mat, n_batch=n_batch, index_dtype=index_dtype, **params)
    shape = (*mat.shape[:n_batch], mat.shape[n_batch] + 1)
    return data, pairs[..., 1], jnp.zeros(shape, index_dtype)


def _todense(data: Any, pairs: Any, shape: Sequence[int]) -> Any:
    return _bcoo("todense", data, pairs, spinfo=_described(shape))


def _solve(cts: list[Any], outs: Any, ins: Any, needs_ct: Any, **params: Any) -> list[Any]:
    """Pull back A(d) x = b: the cotangent of b is c = A^-T ct, that of d_k is -c[i_k] x[j_k]."""
    from jax.experimental import sparse

    (ct,), (x,), (data, indices, indptr, _) = cts, outs, ins
    pairs = _row_pairs(indices, indptr)
    row, column = pairs[..., 0], pairs[..., 1]
    order = jnp.lexsort((row, column))
    starts = jnp.searchsorted(column[order], jnp.arange(indptr.size)).astype(indptr.dtype)
    b = sparse.linalg.spsolve_p.bind(data[order], row[order], starts, ct, **params)
    of_data = -b.at[row].get(mode="fill", fill_value=0) * x[column] if needs_ct[0] else None
    return [of_data, None, None, b]


DEFINITIONS: Mapping[str, Definition | None] = {
    **dict.fromkeys(
        f"bcoo_{name}"
        for name in (
            *("todense", "fromdense", "extract", "transpose", "dot_general_sampled"),
            *("spdot_general", "sort_indices", "sum_duplicates"),
        )
    ),
    "todense": None,
    "bcoo_dot_general": product,
    "bcsr_todense": lambda d, j, starts, *, spinfo: _todense(
        d, _row_pairs(j, starts), spinfo.shape
    ),
    "bcsr_fromdense": _csr_entries,
    "bcsr_extract": lambda j, starts, mat: _bcoo(
        "extract", _row_pairs(j, starts), mat, assume_unique=True
    ),
    "bcsr_dot_general": lambda d, j, starts, x, **params: product(
        d, _row_pairs(j, starts), x, **params
    ),
    "coo_todense": lambda d, i, j, *, spinfo: _todense(d, _pairs(i, j), spinfo.shape),
    "coo_fromdense": _coo_entries,
    "coo_matvec": lambda d, i, j, x, *, spinfo, transpose: _coo_product(
        d, _pairs(i, j), x, spinfo.shape, transpose
    ),
    "coo_matmat": lambda d, i, j, x, *, spinfo, transpose: _coo_product(
        d, _pairs(i, j), x, spinfo.shape, transpose
    ),
    "csr_todense": lambda d, j, starts, *, shape: _todense(d, _row_pairs(j, starts), shape),
    "csr_fromdense": _csr_entries,
    "csr_matvec": lambda d, j, starts, x, *, shape, transpose: _coo_product(
        d, _row_pairs(j, starts), x, shape, transpose
    ),
    "csr_matmat": lambda d, j, starts, x, *, shape, transpose: _coo_product(
        d, _row_pairs(j, starts), x, shape, transpose
    ),
}


@cache
def _rule(primitive: Primitive) -> Rule:
    if primitive.name == "spsolve":
        return vjp_jointly(primitive, _solve)
    return by_definition(primitive, DEFINITIONS[primitive.name])


RULES = Rules(deferred=dict.fromkeys((*DEFINITIONS, "spsolve"), _rule))
