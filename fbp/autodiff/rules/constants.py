"""Primitives without a derivative: their outputs are piecewise constant, or not numbers."""

from fbp.autodiff.compat import named_primitives
from fbp.autodiff.discrete import WITHOUT_COTANGENT
from fbp.autodiff.rule import Rules, constant

ROUNDING = "floor_p ceil_p round_p sign_p stop_gradient_p"
OTHERS = "bitcast_convert_type_p iota_p"

RULES = Rules(constant(*WITHOUT_COTANGENT, *named_primitives(*f"{ROUNDING} {OTHERS}".split()))).tag(
    "forward_mode",
    piecewise_constant="eq ne lt le gt ge is_finite argmax argmin sign floor ceil round",
    rounds="round floor ceil sign",
    compares="lt le gt ge",
    elementwise="round sign",
    by_precision="bitcast_convert_type",
    analytic="stop_gradient",
    moves="stop_gradient",
    same_finiteness="stop_gradient",
    recomputable="eq ne lt le gt ge and or not sign stop_gradient iota is_finite",
)
