"""Tools to test rules with: cases of a primitive, differentiated by fbp and by JAX.

>>> import fbp
>>> from fbp.testing import Case, check_first_order, uniform
>>> from jax import lax
>>> rule = fbp.rule.derivative(lax.tan_p, lambda x, y: lax.add(lax.square(y), 1.0))
>>> case = Case(lax.tan_p, lax.tan, (uniform(-1, 1, 3),))
>>> check_first_order([case], "float32", rules=fbp.RULES | rule)
"""

from fbp.testing.points import points as points
from fbp.testing.rules import COMPLEX as COMPLEX
from fbp.testing.rules import FLOATS as FLOATS
from fbp.testing.rules import NUMBERS as NUMBERS
from fbp.testing.rules import QUICK as QUICK
from fbp.testing.rules import Case as Case
from fbp.testing.rules import Make as Make
from fbp.testing.rules import check_composed as check_composed
from fbp.testing.rules import check_eagerly as check_eagerly
from fbp.testing.rules import check_first_order as check_first_order
from fbp.testing.rules import first_order_distances as first_order_distances
from fbp.testing.rules import fixed as fixed
from fbp.testing.rules import normal as normal
from fbp.testing.rules import number as number
from fbp.testing.rules import precision as precision
from fbp.testing.rules import real as real
from fbp.testing.rules import ties as ties
from fbp.testing.rules import ulps as ulps
from fbp.testing.rules import uniform as uniform
from fbp.testing.rules import values as values
