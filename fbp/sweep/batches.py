"""Read the training batches of some steps from a source that yields them one by one."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from fbp.errors import InputError
from fbp.train.problem import Batches, Part
from fbp.train.user_code import running

END = object()


class BatchReader:
    """Reads batches in order; going back, it begins again.

    >>> reader = BatchReader(Batches(lambda: iter([np.zeros(2), np.ones(2)])))
    >>> reader.read(1, 4).tolist()
    [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
    """

    def __init__(self, batches: Batches):
        self._batches = batches
        self._iterator: Iterator[Any] | None = None
        self._step = 0

    def read(self, start: int, stop: int) -> Part:
        """Return the batches of steps `start` to `stop`, stacked.

        Raises InputError where there are none, or they differ in shape or structure.
        """
        if self._iterator is None or start < self._step:
            self._iterator, self._step = self._begin(), 0
        while self._step < start:
            self._next()
        batches = [self._next() for _ in range(start, stop)]
        shapes = {str(jax.tree.map(lambda a: (np.shape(a), np.result_type(a)), b)) for b in batches}
        if len(shapes) > 1:
            first, second = sorted(shapes)[:2]
            raise InputError(
                f"batches of steps {start} to {stop} differ, {first} and {second}: yield batches "
                "of one shape, as drop_remainder or drop_last does"
            )
        return jax.tree.map(lambda *leaves: np.stack(leaves), *batches)

    def _begin(self) -> Iterator[Any]:
        with running("data['train']"):
            return iter(self._batches.make())

    def _next(self) -> Any:
        assert self._iterator is not None
        with running("data['train']"):
            batch = next(self._iterator, END)
            if batch is END:
                self._iterator = self._begin()
                batch = next(self._iterator, END)
        if batch is END:
            raise InputError("data['train'] yields no batch: give one or more")
        self._step += 1
        return batch
