"""Figures; every function draws into given axes (or new ones) and returns them.

They take data and not models (but for the training curves), so that they serve any method.
"""

from ._calibration import calibration_curve
from ._confusion import confusion_matrix
from ._coverage import coverage_by_class
from ._embeddings import embeddings
from ._history import training_curves
from ._novelty import novelty
from ._per_class import per_class_f1
from ._pretraining import pretraining_curves

__all__ = [
    "calibration_curve",
    "confusion_matrix",
    "coverage_by_class",
    "embeddings",
    "novelty",
    "per_class_f1",
    "pretraining_curves",
    "training_curves",
]
