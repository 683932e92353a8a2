"""Is a gradient right, and if not, where does it go wrong?"""

from fbp.verify.agreement import Agreement as Agreement
from fbp.verify.agreement import compare_with_jax as compare_with_jax
from fbp.verify.check import assert_gradients as assert_gradients
from fbp.verify.check import check as check
from fbp.verify.first_difference import Difference as Difference
from fbp.verify.first_difference import first_difference as first_difference
from fbp.verify.ladders import Ladder as Ladder
from fbp.verify.ladders import ladders as ladders
from fbp.verify.nonfinite import trace_nonfinite as trace_nonfinite
from fbp.verify.nonfinite import trace_program as trace_program
from fbp.verify.page import write_page as write_page
from fbp.verify.parts import Interrupted as Interrupted
from fbp.verify.report import Finding as Finding
from fbp.verify.report import Kind as Kind
from fbp.verify.report import LeafVerdict as LeafVerdict
from fbp.verify.report import Report as Report
from fbp.verify.report import RuleSummary as RuleSummary
from fbp.verify.statistics import gradient_statistics as gradient_statistics
from fbp.verify.statistics import plot_gradients as plot_gradients
from fbp.verify.ulps import ulp_distance as ulp_distance
