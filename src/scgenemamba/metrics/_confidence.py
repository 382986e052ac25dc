"""Whether probabilities, prediction sets and novelty scores can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

#: Label of each cell.
Labels = Sequence[Any] | np.ndarray | pd.Series


class SetCoverage(NamedTuple):
    """How often prediction sets hold the true label.

    ``per_class`` is indexed by true label, with columns ``coverage``, ``mean_size`` and ``n_cells``.
    """

    coverage: float
    mean_size: float
    per_class: pd.DataFrame


def expected_calibration_error(true: Labels, probabilities: pd.DataFrame, *, n_bins: int = 15) -> float:
    """Mean distance between confidence and accuracy, over bins of equal width of the largest probability.

    Parameters
    ----------
    true
        Label of each cell, shape ``(n_cells,)``. Labels that have no column count as errors.
    probabilities
        Table of cells by labels, shape ``(n_cells, n_labels)``, values from 0 to 1.
    n_bins
        Number of bins.

    Raises
    ------
    ValueError
        If shapes differ, there are no cells, or values are not probabilities.
    """
    labels, values = _checked(true, probabilities)
    if n_bins < 1:
        msg = f"n_bins must be at least 1, got {n_bins}."
        raise ValueError(msg)
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-6:
        msg = "probabilities must be numbers from 0 to 1."
        raise ValueError(msg)
    confidence = values.max(1)
    correct = np.asarray(probabilities.columns.astype(str))[values.argmax(1)] == labels
    # right-closed bins, so that a confidence of exactly 1 falls into the last
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(labels))


def set_coverage(true: Labels, sets: pd.DataFrame) -> SetCoverage:
    """Share of cells whose prediction set holds their label, over all cells and by label.

    Parameters
    ----------
    true
        Label of each cell, shape ``(n_cells,)``. A label that has no column is never covered.
    sets
        Boolean table of cells by labels, shape ``(n_cells, n_labels)``.

    Raises
    ------
    ValueError
        If shapes differ or there are no cells.
    """
    labels, values = _checked(true, sets)
    members = values.astype(bool)
    position = pd.Index(sets.columns.astype(str)).get_indexer(labels)
    covered = members[np.arange(len(labels)), position] & (position >= 0)
    cells = pd.DataFrame({"label": labels, "coverage": covered.astype(float), "mean_size": members.sum(1)})
    by_label = cells.groupby("label")
    per_class = by_label.mean().assign(n_cells=by_label.size())
    return SetCoverage(float(covered.mean()), float(members.sum(1).mean()), per_class)


def novelty_auroc(is_new: Sequence[bool] | np.ndarray, score: Sequence[float] | np.ndarray) -> float:
    """Probability that a cell of an unseen type scores higher than a cell of a known type.

    Parameters
    ----------
    is_new
        Whether the type of each cell was absent from training, shape ``(n_cells,)``.
    score
        Larger means more likely new, shape ``(n_cells,)``.

    Raises
    ------
    ValueError
        If all cells, or none, are new: there is nothing to tell apart.
    """
    from sklearn.metrics import roc_auc_score

    new = np.asarray(is_new, dtype=bool)
    if new.all() or not new.any():
        msg = f"{int(new.sum())} of {len(new)} cells are of new types; the score needs both new and known ones."
        raise ValueError(msg)
    return float(roc_auc_score(new, np.asarray(score, dtype=float)))


def _checked(true: Labels, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(true).astype(str)
    if not len(labels) or len(labels) != len(table):
        msg = f"There are {len(labels)} labels and {len(table)} rows; there must be as many, and at least one."
        raise ValueError(msg)
    return labels, table.to_numpy()
