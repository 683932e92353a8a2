"""Experiments: a question, a number that others published, and what is measured here."""

from fbp.laboratory.experiment import Check as Check
from fbp.laboratory.experiment import Outcome as Outcome
