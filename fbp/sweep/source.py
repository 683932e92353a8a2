"""What a sweep is made of, whichever way a caller gives it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fbp.config import Config
from fbp.train.problem import Problem


@dataclass(frozen=True)
class SweepSource:
    """What a run's directory says of its config, and what is trained.

    Attributes:
      config: what to compare.
      tables: the config as it is written into the directory.
      text: the same as text.
      problem: what to train, if not what the config says.
    """

    config: Config
    tables: Mapping[str, Any]
    text: str
    problem: Problem | None = None
