"""Is a gradient right? fbp's results beside those of JAX, the oracle."""

from fbp.verify.agreement import Agreement as Agreement
from fbp.verify.agreement import compare_with_jax as compare_with_jax
from fbp.verify.ulps import ulp_distance as ulp_distance
