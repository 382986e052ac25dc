"""Figures; every function draws into given axes (or new ones) and returns them.

They take data and not models (but for the training curves), so that they serve any method.
"""

from ._attribution import attribution_dotplot
from ._calibration import calibration_curve
from ._confusion import confusion_matrix
from ._coverage import coverage_by_class
from ._embeddings import embeddings
from ._gene_graph import gene_graph
from ._gene_pairs import gene_pair_similarity
from ._history import training_curves
from ._novelty import novelty
from ._per_class import per_class_f1
from ._perturbation import perturbation_heatmap, perturbation_volcano
from ._pretraining import pretraining_curves
from ._reconstruction import reconstruction, reconstruction_overlap

__all__ = [
    "attribution_dotplot",
    "calibration_curve",
    "confusion_matrix",
    "coverage_by_class",
    "embeddings",
    "gene_graph",
    "gene_pair_similarity",
    "novelty",
    "per_class_f1",
    "perturbation_heatmap",
    "perturbation_volcano",
    "pretraining_curves",
    "reconstruction",
    "reconstruction_overlap",
    "training_curves",
]
