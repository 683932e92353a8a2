"""What a sweep is doing: a bar on a terminal or in a notebook, else a line now and then."""

import sys
import threading
import time
from typing import Any

import numpy as np

from fbp.hosts import is_first

EVERY = 30.0  # seconds between lines where there is no terminal


class Status:
    """The status of a sweep. A context manager, at whose end nothing more is shown.

    Args:
      name: of the run.
      total: how many steps all trials together make.
      initial: how many they have made.
      metric: what trials are compared by.
      higher_is_better: whether a higher one is better.
      show: whether anything is shown.
    """

    def __init__(
        self,
        name: str,
        total: int,
        initial: int,
        metric: str,
        higher_is_better: bool,
        show: bool = True,
    ):
        from tqdm.auto import tqdm

        self._name, self._total, self._metric = name, total, metric
        self._best_of = np.nanmax if higher_is_better else np.nanmin
        self._doing, self._best, self._loss = "starting", np.nan, np.nan
        self._begin, self._initial, self._steps = time.monotonic(), initial, initial
        self._show = show and is_first()
        self._bar = tqdm(
            desc=name,
            total=total,
            initial=initial,
            unit=" trial-steps",
            unit_scale=True,
            disable=None if self._show else True,
        )
        self._ended = threading.Event()

    def __enter__(self) -> "Status":
        if self._bar.disable and self._show:
            threading.Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._bar.close()

    def say(self, doing: str) -> None:
        """Show what is being done, such as `compiling`."""
        self._doing = doing
        self._bar.set_description_str(f"{self._name}: {doing}" if doing else self._name)

    def advance(self, steps: int, losses: Any, metrics: Any) -> None:
        """Show how far the trials are, their lowest loss and the best one so far.

        Args:
          steps: how many the trials have made.
          losses: their mean training losses.
          metrics: of the validation set, by name.
        """
        loss = losses["loss"] if isinstance(losses, dict) else losses
        self._loss = _of_finite(np.nanmin, [loss])
        self._best = _of_finite(self._best_of, [self._best, metrics[self._metric]])
        self._steps = steps
        self._bar.set_postfix_str(self._numbers(), refresh=False)
        self._bar.update(steps - self._bar.n)

    def line(self) -> str:
        """Return the status as a line: what is done, how much, the best so far, the time left."""
        seconds = time.monotonic() - self._begin
        done = self._steps - self._initial
        left = (self._total - self._steps) * seconds / done if done else None
        parts = [f"{100 * self._steps / max(self._total, 1):.0f}%", self._numbers()]
        parts += [] if left is None else [f"about {_duration(left)} left"]
        return f"{self._name}: {', '.join(filter(None, [self._doing, *parts]))}"

    def _numbers(self) -> str:
        if not np.isfinite(self._best):
            return ""
        return f"loss {self._loss:.3g}, best {self._metric} {self._best:.4g}"

    def _tell(self) -> None:
        while not self._ended.wait(EVERY):
            print(self.line(), file=sys.stderr, flush=True)


def _of_finite(reduce: Any, arrays: Any) -> float:
    values = np.concatenate([np.ravel(np.asarray(array, np.float64)) for array in arrays])
    finite = values[np.isfinite(values)]
    return float(reduce(finite)) if len(finite) else float("nan")


def _duration(seconds: float) -> str:
    """Format seconds as a reader says them.

    >>> _duration(42), _duration(150), _duration(7300)
    ('42 s', '2 min', '2.0 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
