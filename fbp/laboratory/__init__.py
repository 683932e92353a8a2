"""Experiments: a question, a number that others published, and what is measured here."""

from fbp.laboratory.experiment import Check, Outcome

__all__ = [
    "Check",
    "Outcome",
]
