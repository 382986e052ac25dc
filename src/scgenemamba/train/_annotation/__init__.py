"""Annotation of embedded cells: linear heads, calibration, prediction sets, novelty."""

from ._across_studies import fit_across_studies
from ._annotator import Annotator
from ._features import TARGET_SUM, CellFeatures
from ._fit import choose_labelled, fit_annotator, unlabelled_batches

__all__ = [
    "TARGET_SUM",
    "Annotator",
    "CellFeatures",
    "choose_labelled",
    "fit_across_studies",
    "fit_annotator",
    "unlabelled_batches",
]
