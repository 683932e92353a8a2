"""The optimizers that are compared: those without a learning rate to tune, and tuned ones.

Every one is a function `(trial, steps) -> optimizer`, where `trial["rate"]` is the learning rate
of those that have one. Learning-rate-free optimizers have optax's defaults.
"""

from collections.abc import Callable, Mapping
from typing import Any

import optax
from jaxtyping import Array
from optax import contrib

from fbp.train import TrainState

Make = Callable[[Mapping[str, Array], int], optax.GradientTransformation]

LEARNING_RATE_FREE: dict[str, Make] = {
    "schedule_free_adamw": lambda *_: contrib.schedule_free_adamw(),
    "schedule_free_sgd": lambda *_: contrib.schedule_free_sgd(),
    "cocob": lambda *_: contrib.cocob(),
    "mechanize(adam)": lambda *_: contrib.mechanize(optax.adam(1.0)),
    "mechanize(sgd)": lambda *_: contrib.mechanize(optax.sgd(1.0)),
    "prodigy": lambda *_: contrib.prodigy(),
    "dadapt_adamw": lambda *_: contrib.dadapt_adamw(),
    "momo": lambda *_: contrib.momo(),
    "momo_adam": lambda *_: contrib.momo_adam(),
    "dog": lambda *_: contrib.dog(),
    "dowg": lambda *_: contrib.dowg(),
}

TUNED: dict[str, Make] = {
    "adam, constant": lambda trial, _: optax.adam(trial["rate"]),
    "adam, cosine": lambda trial, steps: optax.adam(
        optax.cosine_decay_schedule(trial["rate"], steps)
    ),
    "sgd with momentum": lambda trial, _: optax.sgd(trial["rate"], momentum=0.9),
}


def evaluated(method: str, state: TrainState) -> Any:
    """Return the parameters that a method is judged by: for schedule-free ones, an average."""
    if method.startswith("schedule_free"):
        return contrib.schedule_free_eval_params(state.opt_state, state.params)
    return state.params
