"""Choose the parallelism of a study: what its config names, what is remembered, or measured."""

from collections.abc import Callable

from fbp.hosts import on_first_process
from fbp.sweep.autotuning import FirstSteps, autotune, is_measured
from fbp.sweep.parallelism import Parallelism
from fbp.sweep.remembered import choice_key, remember, remembered
from fbp.sweep.study import Study
from fbp.sweep.vmapping import traces_under_vmap

IN_TURN = Parallelism("map")  # without vmap
Choice = tuple[Parallelism, dict[str, float]]


def choose_parallelism(study: Study, say: Callable[[str], None] = lambda *_: None) -> Choice:
    """Choose a study's parallelism before anything trains.

    Return it, and the trial-steps per second of each candidate that was measured. `say` is called
    with what is being done.
    """
    return known_parallelism(study, say) or measure_parallelism(study, say)


def known_parallelism(study: Study, say: Callable[[str], None]) -> Choice | None:
    """Return the parallelism that takes no measurement, or that this machine remembers."""
    say("tracing")
    if not traces_under_vmap(study):
        return IN_TURN, {}
    if not is_measured(study):
        return autotune(study, say)
    choice = on_first_process(remembered, choice_key(study))
    return None if choice is None else (choice[0].of(len(study.trials)), choice[1])


def measure_parallelism(
    study: Study, say: Callable[[str], None], first: FirstSteps | None = None
) -> Choice:
    """Measure and remember the parallelism of a study, after its `first` steps if they are made."""
    parallelism, speeds = autotune(study, say, first)
    on_first_process(remember, choice_key(study), parallelism, speeds)
    return parallelism, speeds
