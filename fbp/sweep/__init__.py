"""Learning rates compared: many trials as one compiled program."""

from fbp.sweep.problem import check_gradient as check_gradient
from fbp.sweep.problem import problem_of as problem_of
from fbp.sweep.run import sweep as sweep
from fbp.sweep.table import table as table
