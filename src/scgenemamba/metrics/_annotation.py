"""How well labels are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._confidence import expected_calibration_error

if TYPE_CHECKING:
    from ._confidence import Labels


def annotation_scores(
    true: Labels,
    predicted: Labels,
    probabilities: pd.DataFrame | None = None,
    *,
    trained_on: Labels | None = None,
) -> dict[str, float]:
    """Scores of predicted labels.

    Types that training never saw cannot be predicted. Their cells are left out of the main scores (see
    :func:`novelty_auroc` for them), and count as errors in those that end in ``_all``.

    Parameters
    ----------
    true, predicted
        Label of each cell, shape ``(n_cells,)``.
    probabilities
        Table of cells by labels, for the calibration error.
    trained_on
        Labels of the training cells; ``None`` if all types were seen.

    Returns
    -------
    ``accuracy``, ``macro_f1`` (mean F1 over types on both sides), ``balanced_accuracy``, ``ece`` (NaN without
    probabilities), ``accuracy_all`` and ``macro_f1_all`` (all cells, all types of ``true``), ``n_cells`` and ``n_new``
    (cells of types that were not seen).

    Raises
    ------
    ValueError
        If there are no cells, as many labels as predictions are not given, or no type is on both sides.
    """
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    truth, guess, known = _checked(true, predicted, trained_on)
    shared = np.unique(truth[known])
    seen, given = truth[known], guess[known]
    ece = np.nan
    if probabilities is not None:
        ece = expected_calibration_error(seen, probabilities.iloc[np.flatnonzero(known)])
    return {
        "accuracy": float(accuracy_score(seen, given)),
        "macro_f1": float(f1_score(seen, given, labels=shared, average="macro", zero_division=0)),
        # balanced accuracy, which scikit-learn warns about where predictions hold further types
        "balanced_accuracy": float(recall_score(seen, given, labels=shared, average="macro", zero_division=0)),
        "ece": ece,
        "accuracy_all": float(accuracy_score(truth, guess)),
        "macro_f1_all": float(f1_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)),
        "n_cells": float(len(truth)),
        "n_new": float((~known).sum()),
    }


def per_class_scores(true: Labels, predicted: Labels, *, trained_on: Labels | None = None) -> pd.DataFrame:
    """Precision, recall and F1 of each type of ``true``.

    Parameters
    ----------
    true, predicted, trained_on
        As in :func:`annotation_scores`. Types that were not trained on have no scores (NaN).

    Returns
    -------
    Table indexed by label, with columns ``precision``, ``recall``, ``f1`` and ``support`` (cells).

    Raises
    ------
    ValueError
        As in :func:`annotation_scores`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, guess, known = _checked(true, predicted, trained_on)
    shared = np.unique(truth[known])
    scores = precision_recall_fscore_support(truth[known], guess[known], labels=shared, zero_division=0)
    table = pd.DataFrame(dict(zip(["precision", "recall", "f1"], scores[:3], strict=True)), index=shared)
    support = pd.Series(truth).value_counts()
    table = table.reindex(np.unique(truth)).assign(support=support)
    table.index.name = "label"
    return table


def _checked(true: Labels, predicted: Labels, trained_on: Labels | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and predicted labels as text, and whether training saw the true one."""
    truth, guess = np.asarray(true).astype(str), np.asarray(predicted).astype(str)
    if not len(truth) or truth.shape != guess.shape:
        msg = f"There are {len(truth)} true and {len(guess)} predicted labels; there must be as many, and at least one."
        raise ValueError(msg)
    known = np.ones(len(truth), bool) if trained_on is None else np.isin(truth, np.asarray(trained_on).astype(str))
    if not known.any():
        msg = f"None of the types {sorted(set(truth))} was trained on, so there is nothing to score."
        raise ValueError(msg)
    return truth, guess, known
