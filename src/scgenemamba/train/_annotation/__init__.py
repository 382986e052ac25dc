"""Annotation of embedded cells: linear heads, calibration, prediction sets, novelty."""

from ._annotator import Annotator
from ._features import CellFeatures
from ._fit import MAX_LABELLED, balanced_order, fit_annotator, unlabelled_batches

__all__ = ["MAX_LABELLED", "Annotator", "CellFeatures", "balanced_order", "fit_annotator", "unlabelled_batches"]
