"""Compare learning rates: many trials as few compiled programs.

From a config to an answer:

- `variants_of` (fbp.config_file): one config for each combination of the axes' values;
- `grid`, `sampling`: which trials each of them has; `study`: these with their data and network;
- `optuna_search`: what Optuna says to try next;
- `segments`: in which order they are trained, and which settings are promoted;
- `parallelism`, `program`: all trials of a study as one program; `autotuning`, `choice`: the
  fastest way to run it; `capacity`: whether memory holds their states;
- `runner`, `training`: that program run, recorded (`rows`) and saved (`progress`);
- `recorded`: the whole sweep, its winners tested, its summary; `table`: for a terminal;
- `division`, `part`, `merging`: a sweep divided by an index, over processes that never speak;
- `entry`: all of that in one call, `run`, of a config or of a `Problem` of the user's own.
"""

from fbp.sweep.entry import run
from fbp.sweep.merging import merge
from fbp.sweep.problem import check_gradient, load_problem
from fbp.sweep.recorded import sweep
from fbp.sweep.study import check_gradients, studies_of
from fbp.sweep.table import summary_table
from fbp.train.objective import Objective
from fbp.train.optimizer import scale_by_path
from fbp.train.problem import Batches, Problem

__all__ = [
    "Batches",
    "Objective",
    "Problem",
    "check_gradient",
    "check_gradients",
    "load_problem",
    "merge",
    "run",
    "scale_by_path",
    "studies_of",
    "summary_table",
    "sweep",
]
