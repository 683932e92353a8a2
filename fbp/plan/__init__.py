"""What a config will need, before anything runs: `fbp plan`.

- `devices`: the target, here or of a TPU slice;
- `shapes`: how large parameters, optimizer state and residuals are, from shapes alone;
- `compiled`: what the compiler says of a program; `communication`: its collectives;
- `requirements`: all of that for a config's trials; `text`: for a terminal;
- `budgets`: work against memory of a gradient.
"""

from fbp.plan.budgets import budgets, budgets_report
from fbp.plan.devices import DeviceTarget, local_target, tpu_slice
from fbp.plan.requirements import ResourcePlan, plan
from fbp.plan.text import report

__all__ = [
    "DeviceTarget",
    "ResourcePlan",
    "budgets",
    "budgets_report",
    "local_target",
    "plan",
    "report",
    "tpu_slice",
]
