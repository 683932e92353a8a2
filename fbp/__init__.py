"""Functional backpropagation: pure functions, differentiated by a reverse mode that you can open.

`grad`, `value_and_grad`, `vjp`, `jacrev`, `hessian` and `linear_transpose` take what JAX's take.
The rules by which they differentiate are the table `RULES`; `rule` says how to state one.
`fbp.nn`, `fbp.train`, `fbp.sweep`, `fbp.data` and `fbp.report` are the way from a network to the
learning rate that trains it best, and `fbp.verify` checks gradients. `fit` goes that way by itself,
from the data alone.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fbp.automl import fit as fit
from fbp.automl import load_fitted as load_fitted
from fbp.errors import InputError as InputError

if TYPE_CHECKING:
    from fbp import autodiff as autodiff
    from fbp import data as data
    from fbp import gallery as gallery
    from fbp import nn as nn
    from fbp import report as report
    from fbp import sweep as sweep
    from fbp import train as train
    from fbp import verify as verify
    from fbp.autodiff import RULES as RULES
    from fbp.autodiff import VJP as VJP
    from fbp.autodiff import MissingRule as MissingRule
    from fbp.autodiff import Rule as Rule
    from fbp.autodiff import Rules as Rules
    from fbp.autodiff import at as at
    from fbp.autodiff import edit as edit
    from fbp.autodiff import fwd_and_bwd as fwd_and_bwd
    from fbp.autodiff import grad as grad
    from fbp.autodiff import hessian as hessian
    from fbp.autodiff import hvp as hvp
    from fbp.autodiff import jacrev as jacrev
    from fbp.autodiff import linear_transpose as linear_transpose
    from fbp.autodiff import loop_checkpoints as loop_checkpoints
    from fbp.autodiff import override_jax as override_jax
    from fbp.autodiff import rule as rule
    from fbp.autodiff import rule_from_jvp as rule_from_jvp
    from fbp.autodiff import rules_of_authors as rules_of_authors
    from fbp.autodiff import sites as sites
    from fbp.autodiff import tap as tap
    from fbp.autodiff import tape as tape
    from fbp.autodiff import value_and_grad as value_and_grad
    from fbp.autodiff import vjp as vjp
    from fbp.automl.estimator import FbpClassifier as FbpClassifier
    from fbp.automl.estimator import FbpRegressor as FbpRegressor

__version__ = "0.1.0"

PACKAGES = ("autodiff", "data", "gallery", "nn", "report", "sweep", "train", "verify")

__all__ = [
    "RULES",
    "VJP",
    "InputError",
    "MissingRule",
    "Rule",
    "Rules",
    "at",
    "data",
    "edit",
    "fit",
    "fwd_and_bwd",
    "gallery",
    "grad",
    "hessian",
    "hvp",
    "jacrev",
    "linear_transpose",
    "load_fitted",
    "loop_checkpoints",
    "nn",
    "override_jax",
    "report",
    "rule",
    "rule_from_jvp",
    "rules_of_authors",
    "sites",
    "sweep",
    "tap",
    "tape",
    "train",
    "value_and_grad",
    "verify",
    "vjp",
]
if find_spec("sklearn"):
    __all__ += ["FbpClassifier", "FbpRegressor"]


def __getattr__(name: str) -> Any:
    """Import what takes JAX, or scikit-learn, when it is asked for: commands that compute nothing
    need not wait for it."""
    if name in PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in ("FbpClassifier", "FbpRegressor"):
        return getattr(import_module("fbp.automl.estimator"), name)
    if name in __all__:
        return getattr(import_module("fbp.autodiff"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what is exported."""
    return sorted({*__all__, "__version__"})
