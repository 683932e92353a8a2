"""What a config will need, before anything runs: `fbp plan`.

- `target`: the devices, here or of a TPU slice;
- `shapes`: how large parameters, optimizer state and residuals are, from shapes alone;
- `compiled`: what the compiler says of a program; `exchange`: what its devices send each other;
- `plan`: all of that for a config's trials; `report`: as text.
"""

from fbp.plan.plan import Plan as Plan
from fbp.plan.plan import plan as plan
from fbp.plan.report import report as report
from fbp.plan.target import Target as Target
from fbp.plan.target import here as here
from fbp.plan.target import tpu_slice as tpu_slice
