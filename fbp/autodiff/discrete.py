"""Primitives whose outputs never have a cotangent: booleans, integers and keys, whose tangents have
the dtype float0 in JAX."""

from fbp.autodiff.compat import named_primitives
from fbp.autodiff.graph import Primitive

NAMES = (
    "eq_p ne_p lt_p le_p gt_p ge_p eq_to_p lt_to_p le_to_p is_finite_p",
    "and_p or_p xor_p not_p shift_left_p shift_right_logical_p shift_right_arithmetic_p",
    "population_count_p clz_p reduce_and_p reduce_or_p reduce_xor_p",
    "argmax_p argmin_p axis_index_p",
    "random_bits_p random_seed_p random_split_p random_fold_in_p",
    "rng_bit_generator_p threefry2x32_p",
)
WITHOUT_COTANGENT = tuple(named_primitives(*" ".join(NAMES).split()))
STATE_IT_LATER = (
    "State the derivative where the value is a float: write the function that ends there, such "
    "as lambda x: (x > 0).astype(x.dtype), as a jax.custom_jvp or jax.custom_vjp function."
)


def check_has_cotangent(primitive: Primitive) -> None:
    """Raise ValueError for a primitive whose outputs never have a cotangent."""
    if primitive in WITHOUT_COTANGENT:
        raise ValueError(
            f"a rule for '{primitive}' would never be used: it gives booleans, integers or keys, "
            f"which have no cotangent. {STATE_IT_LATER}"
        )
