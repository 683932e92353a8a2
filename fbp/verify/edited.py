"""The edits of a table: what they do to the gradient, as deviations that the user declares."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fbp.autodiff import grad, sites
from fbp.autodiff.rule import Rules
from fbp.verify.problem import CheckedFunction
from fbp.verify.report import Finding, Kind

SAME = 1e-6  # relative distance below which two gradients are the same but for rounding


def declared_edits(problem: CheckedFunction, rules: Rules) -> list[Finding]:
    """Return a finding for each edit of a table, with its sites, and one for each leaf whose
    gradient deviates by the edits: by which angle, and by how much.

    Args:
      problem: a function and a point.
      rules: a table with edits.

    Returns:
      Findings of the kind `declared`.

    Raises:
      fbp.InputError: an edit chooses no site, or does not fit there.

    >>> import fbp, jax.numpy as jnp
    >>> from fbp.verify.problem import problem_of
    >>> turned = fbp.RULES | fbp.edit.cotangent(fbp.at.primitive("sin"), fbp.edit.scale(-2.0))
    >>> for finding in declared_edits(problem_of(jnp.sin, (1.0,), 0), turned):
    ...     print(finding.message)
    cotangent(primitive('sin'), scale(-2.0)) changes the gradient at sin
    by the edits of the table: cosine -1 with the derivative, 2 times its norm
    """
    leaves = dict(zip(map(_path, problem.paths), problem.leaves, strict=True))

    def loss(leaves: dict[str, Any]) -> Any:
        ordered = [leaves[_path(path)] for path in problem.paths]
        return problem.loss(ordered, list(problem.arrays))

    tree = sites(loss, leaves, rules=rules)
    findings = [
        Finding(
            Kind.DECLARED,
            f"{edit} changes the gradient at {', '.join(site.name for site in chosen)}",
            source=chosen[0].source,
        )
        for edit, chosen in tree.edits
    ]
    edited, plain = (jax.jit(grad(loss, rules=r))(leaves) for r in (rules, rules.table))
    for name, path in zip(problem.names, problem.paths, strict=True):
        findings += _deviation(
            name, np.asarray(edited[_path(path)]), np.asarray(plain[_path(path)])
        )
    return findings


def _deviation(name: str, edited: np.ndarray, plain: np.ndarray) -> list[Finding]:
    """Return a finding if the gradients of a leaf differ by more than rounding."""
    a, b = (x.astype(np.complex128).ravel() for x in (edited, plain))
    norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
    if np.linalg.norm(a - b) <= SAME * max(norm_a, norm_b):
        return []
    message = "by the edits of the table: the gradient is " + (
        "zero" if norm_a == 0 else "not zero"
    )
    if norm_a and norm_b:
        cosine = np.vdot(a, b).real / (norm_a * norm_b)
        message = (
            f"by the edits of the table: cosine {cosine:.3g} with the derivative, "
            f"{norm_a / norm_b:.3g} times its norm"
        )
    return [Finding(Kind.DECLARED, message, leaf=name)]


def _path(path: Sequence[Any]) -> str:
    """Return the path of a leaf as selectors know it."""
    return "/".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
