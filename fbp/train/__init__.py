"""Training: a state, one compiled update, and its repetition until the output is as desired."""

from fbp.train.layout import Layout, megatron
from fbp.train.loop import Measurement, TrainResult, train
from fbp.train.objective import Objective, evaluate, objective_of
from fbp.train.sharding import sharded_init
from fbp.train.state import TrainState, initial_state
from fbp.train.step import make_step, with_guards

__all__ = [
    "Layout",
    "Measurement",
    "Objective",
    "TrainResult",
    "TrainState",
    "evaluate",
    "initial_state",
    "make_step",
    "megatron",
    "objective_of",
    "sharded_init",
    "train",
    "with_guards",
]
