"""Learning rates compared: many trials as few compiled programs.

From a config to an answer:

- `variants_of` (fbp.config_file): one config for each combination of the axes' values;
- `grid`, `draws`: which trials each of them has; `cohort`: these with their data and network;
- `stretches`: in which order they are trained, and which settings go on;
- `mapping`, `program`, `choice`: all trials of a cohort as one program, in the fastest way;
- `runner`, `training`: that program run, recorded (`rows`) and saved (`checkpoint`);
- `run`: the whole sweep, its winners tested, its summary; `table`: for a terminal.
"""

from fbp.sweep.cohort import check_gradients as check_gradients
from fbp.sweep.cohort import cohorts_of as cohorts_of
from fbp.sweep.problem import check_gradient as check_gradient
from fbp.sweep.problem import problem_of as problem_of
from fbp.sweep.run import sweep as sweep
from fbp.sweep.table import table as table
