"""Where fbp keeps what a later run of the same user need not make again."""

import os
from pathlib import Path


def user_cache(name: str) -> Path | None:
    """Return a directory of the user's cache, made if it is missing; None without one to write to.

    It is `XDG_CACHE_HOME/fbp/NAME`, or `~/.cache/fbp/NAME`.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = base / "fbp" / name
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: neither HOME nor an entry of the user
        return None
    return directory if os.access(directory, os.W_OK) else None
