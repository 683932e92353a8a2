"""A sweep that ends in its midst."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fbp.sweep import training


class Killed(Exception):
    """The sweep ends here."""


@contextmanager
def killed_in_the_third_segment(monkeypatch) -> Iterator[None]:
    """What runs within ends with a segment recorded that no checkpoint has, after two of them."""
    run_segment = training._run_segment

    def killed(segment, progress, runner):
        done = run_segment(segment, progress, runner)
        if done.segments == 3:
            raise Killed
        return done

    with monkeypatch.context() as patch:
        patch.setattr(training, "_run_segment", killed)
        with pytest.raises(Killed):
            yield
