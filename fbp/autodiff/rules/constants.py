"""Primitives without a derivative: what they give is constant almost everywhere, or no number."""

from fbp.autodiff.graph import named_primitives
from fbp.autodiff.rule import Rules, constant

COMPARISONS = "eq_p ne_p lt_p le_p gt_p ge_p eq_to_p lt_to_p le_to_p is_finite_p"
ROUNDING = "floor_p ceil_p round_p sign_p stop_gradient_p"
BITS = """
    and_p or_p xor_p not_p shift_left_p shift_right_logical_p shift_right_arithmetic_p
    population_count_p clz_p bitcast_convert_type_p
"""
PLACES = "argmax_p argmin_p iota_p axis_index_p reduce_and_p reduce_or_p reduce_xor_p"
RANDOM = """
    random_bits_p random_seed_p random_split_p random_fold_in_p
    rng_bit_generator_p threefry2x32_p
"""

RULES = Rules(
    constant(*named_primitives(*" ".join((COMPARISONS, ROUNDING, BITS, PLACES, RANDOM)).split()))
)
