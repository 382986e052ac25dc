"""Figures; every function draws into given axes (or new ones) and returns them."""

from ._confusion import confusion_matrix
from ._history import training_curves

__all__ = ["confusion_matrix", "training_curves"]
