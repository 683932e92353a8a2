"""Learning rates compared: many trials as few compiled programs.

From a config to an answer:

- `variants_of` (fbp.config_file): one config for each combination of the axes' values;
- `grid`, `draws`: which trials each of them has; `study`: these with their data and network;
- `segments`: in which order they are trained, and which settings go on;
- `mapping`, `program`, `choice`: all trials of a study as one program, in the fastest way;
- `runner`, `training`: that program run, recorded (`rows`) and saved (`checkpoint`);
- `run`: the whole sweep, its winners tested, its summary; `table`: for a terminal.
"""

from fbp.sweep.problem import check_gradient as check_gradient
from fbp.sweep.problem import load_problem as load_problem
from fbp.sweep.run import sweep as sweep
from fbp.sweep.study import check_gradients as check_gradients
from fbp.sweep.study import studies_of as studies_of
from fbp.sweep.table import table as table
