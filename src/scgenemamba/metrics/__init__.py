"""Scores of embeddings and annotations, and the comparison behind ``scgenemamba benchmark``."""

from ._adjacency import adjacency_jaccard
from ._annotation import annotation_scores, per_class_scores
from ._benchmark import benchmark
from ._cells import Cells
from ._confidence import SetCoverage, expected_calibration_error, novelty_auroc, set_coverage
from ._gene_pairs import matched_gene_pairs, score_gene_pairs
from ._integration import integration_scores
from ._interval import Interval, mean_interval
from ._methods import Method, Output, Settings, Task, method_names
from ._methods._genemamba import GeneMamba
from ._reconstruction import reconstruction_scores
from ._results import BenchmarkResult
from ._sequences import bleu, levenshtein
from ._store import read_run

__all__ = [
    "BenchmarkResult",
    "Cells",
    "GeneMamba",
    "Interval",
    "Method",
    "Output",
    "SetCoverage",
    "Settings",
    "Task",
    "adjacency_jaccard",
    "annotation_scores",
    "benchmark",
    "bleu",
    "expected_calibration_error",
    "integration_scores",
    "levenshtein",
    "matched_gene_pairs",
    "mean_interval",
    "method_names",
    "novelty_auroc",
    "per_class_scores",
    "read_run",
    "reconstruction_scores",
    "score_gene_pairs",
    "set_coverage",
]
