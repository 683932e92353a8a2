"""What a config will need, before anything runs: `fbp plan`.

- `target`: the devices, here or of a TPU slice;
- `shapes`: how large parameters, optimizer state and residuals are, from shapes alone;
- `compiled`: what the compiler says of a program; `exchange`: what its devices send each other;
- `plan`: all of that for a config's trials; `report`: as text.
"""

from fbp.plan.devices import DeviceTarget as DeviceTarget
from fbp.plan.devices import local_target as local_target
from fbp.plan.devices import tpu_slice as tpu_slice
from fbp.plan.requirements import Plan as Plan
from fbp.plan.requirements import plan as plan
from fbp.plan.text import report as report
