"""The reverse mode: stage a function, run it forward with a tape, run the tape backward."""

from fbp.autodiff import pickled as pickled
from fbp.autodiff import rule as rule
from fbp.autodiff.authors import rules_of_authors as rules_of_authors
from fbp.autodiff.backprop import MissingRule as MissingRule
from fbp.autodiff.edits import at as at
from fbp.autodiff.edits import edit as edit
from fbp.autodiff.edits.listing import sites as sites
from fbp.autodiff.edits.taps import tap as tap
from fbp.autodiff.jacobian import hessian as hessian
from fbp.autodiff.jacobian import hvp as hvp
from fbp.autodiff.jacobian import jacrev as jacrev
from fbp.autodiff.override import override_jax as override_jax
from fbp.autodiff.pullback import VJP as VJP
from fbp.autodiff.recording import TapeEntry as TapeEntry
from fbp.autodiff.recording import tape as tape
from fbp.autodiff.rule import Rule as Rule
from fbp.autodiff.rule import Rules as Rules
from fbp.autodiff.rules.from_jvp import rule_from_jvp as rule_from_jvp
from fbp.autodiff.rules.while_loop import loop_checkpoints as loop_checkpoints
from fbp.autodiff.table import RULES as RULES
from fbp.autodiff.transforms import fwd_and_bwd as fwd_and_bwd
from fbp.autodiff.transforms import grad as grad
from fbp.autodiff.transforms import value_and_grad as value_and_grad
from fbp.autodiff.transforms import vjp as vjp
from fbp.autodiff.transposition import linear_transpose as linear_transpose
