"""Fingerprints of data and of programs, by which a run that resumes knows that it is the same."""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fbp.train.problem import Batches

READ_IN_FULL = 1 << 28  # bytes of an array that are read in full; of a larger one, some rows
ROWS = 4096
DIGITS = 16  # of a SHA-256: 64 bits are enough to tell an accident


def arrays_fingerprint(tree: Any) -> str:
    """Return the fingerprint of a pytree of arrays: types, shapes and values.

    Of an array of more than 256 MiB, 4,096 rows at even distances are read, not all of it. Of
    `Batches`, the first.

    >>> marks = [arrays_fingerprint(np.arange(n)) for n in (3, 3, 4)]
    >>> marks[0] == marks[1], marks[0] == marks[2]
    (True, False)
    """
    if isinstance(tree, Batches):
        return arrays_fingerprint(next(iter(tree.make()), None))
    digest = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        if hasattr(leaf, "dtype") and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.result_type(leaf)
        shape = np.shape(leaf)
        digest.update(f"{dtype}{shape}".encode())
        digest.update(np.ascontiguousarray(_read(leaf)).tobytes())
    return digest.hexdigest()[:DIGITS]


def program_fingerprint(fun: Callable[..., Any], *args: Any) -> str:
    """Return the fingerprint of what a function computes: its jaxpr, and the arrays within.

    >>> one, two = (program_fingerprint(lambda x, f=f: f * x, 1.0) for f in (2.0, 3.0))
    >>> one == two, one == program_fingerprint(lambda x: 2.0 * x, 1.0)
    (False, True)
    """
    program = jax.make_jaxpr(fun)(*args)
    text = re.sub(r"0x[0-9a-f]+", "", str(program.jaxpr))
    joined = text + arrays_fingerprint(program.consts)
    return hashlib.sha256(joined.encode()).hexdigest()[:DIGITS]


def text_fingerprint(text: str) -> str:
    """Return the fingerprint of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _read(leaf: Any) -> np.ndarray:
    count = np.shape(leaf)[0] if np.ndim(leaf) else 1
    if np.ndim(leaf) == 0 or leaf.nbytes <= READ_IN_FULL or count <= ROWS:
        return np.asarray(leaf)
    return np.asarray(leaf[np.linspace(0, count - 1, ROWS).astype(int)])
