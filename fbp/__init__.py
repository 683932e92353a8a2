"""Functional backpropagation: pure functions, differentiated by a reverse mode that you can open.

`grad`, `value_and_grad`, `vjp`, `jacrev`, `hessian` and `linear_transpose` take what JAX's take.
The rules by which they differentiate are the table `RULES`; `rule` says how to state one.
`fbp.nn`, `fbp.train`, `fbp.sweep`, `fbp.data` and `fbp.report` are the way from a network to the
learning rate that trains it best. `fit` goes that way by itself, from the data alone.
"""

from typing import TYPE_CHECKING, Any

from fbp.autodiff import RULES as RULES
from fbp.autodiff import VJP as VJP
from fbp.autodiff import MissingRule as MissingRule
from fbp.autodiff import Rule as Rule
from fbp.autodiff import Rules as Rules
from fbp.autodiff import grad as grad
from fbp.autodiff import hessian as hessian
from fbp.autodiff import hvp as hvp
from fbp.autodiff import jacrev as jacrev
from fbp.autodiff import linear_transpose as linear_transpose
from fbp.autodiff import loop_checkpoints as loop_checkpoints
from fbp.autodiff import rule as rule
from fbp.autodiff import rule_from_jvp as rule_from_jvp
from fbp.autodiff import value_and_grad as value_and_grad
from fbp.autodiff import vjp as vjp
from fbp.errors import InputError as InputError
from fbp.fit import fit as fit
from fbp.fit import load_fitted as load_fitted

if TYPE_CHECKING:
    from fbp.fit.estimator import FbpClassifier as FbpClassifier
    from fbp.fit.estimator import FbpRegressor as FbpRegressor

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`FbpClassifier` and `FbpRegressor` need scikit-learn, which is imported with them."""
    if name not in ("FbpClassifier", "FbpRegressor"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fbp.fit import estimator

    return getattr(estimator, name)
