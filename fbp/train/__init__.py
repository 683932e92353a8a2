"""Training: a state, one compiled update, and its repetition until the output is as desired."""

from fbp.train.layout import Layout as Layout
from fbp.train.layout import megatron as megatron
from fbp.train.loop import Measurement as Measurement
from fbp.train.loop import TrainResult as TrainResult
from fbp.train.loop import train as train
from fbp.train.objective import Objective as Objective
from fbp.train.objective import evaluate as evaluate
from fbp.train.objective import objective_of as objective_of
from fbp.train.sharding import sharded_init as sharded_init
from fbp.train.state import TrainState as TrainState
from fbp.train.state import initial_state as initial_state
from fbp.train.step import make_step as make_step
from fbp.train.step import with_guards as with_guards
