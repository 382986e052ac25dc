"""Hyper-parameters chosen on a part of the labelled cells; the query is never looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._base import Output

if TYPE_CHECKING:
    from ._base import Task

_VALIDATION_SHARE = 0.2


def validation_cells(labels: np.ndarray, seed: int) -> np.ndarray:
    """Mask of a fifth of each label's cells, bool ``(n_cells,)``; a label's only cell stays in training."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        n_chosen = min(max(round(_VALIDATION_SHARE * len(members)), 1), len(members) - 1)
        chosen[members[:n_chosen]] = True
    return chosen


def tuned_predictions(task: Task, estimator: Any, grid: dict[str, list[Any]], features: Any) -> Output:
    """Choose hyper-parameters by macro-F1 on validation cells, refit on all labelled cells, predict the query.

    Parameters
    ----------
    task
        With labels.
    estimator
        Classifier of scikit-learn's kind.
    grid
        Values to choose from.
    features
        Of all cells, array or CSR ``(n_cells, n_features)``.
    """
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.preprocessing import LabelEncoder

    encoder = LabelEncoder()
    codes = encoder.fit_transform(task.shown_labels)
    validation = validation_cells(codes, task.seed)
    shown, query = features[np.flatnonzero(task.shown)], features[np.flatnonzero(task.query)]
    chosen: dict[str, Any] = {}
    if task.settings.quick or not validation.any() or all(len(values) == 1 for values in grid.values()):
        chosen = {name: values[len(values) // 2] for name, values in grid.items()}
        fitted = estimator.set_params(**chosen).fit(shown, codes)
    else:
        search = GridSearchCV(estimator, grid, scoring="f1_macro", cv=PredefinedSplit(np.where(validation, 0, -1)))
        fitted = search.fit(shown, codes)
        chosen = search.best_params_
    probabilities = task.table(_probabilities(fitted, query), encoder.classes_)
    return Output(probabilities=probabilities, details={"chosen": {k: str(v) for k, v in chosen.items()}})


def _probabilities(fitted: Any, features: Any) -> np.ndarray:
    if hasattr(fitted, "predict_proba"):
        return fitted.predict_proba(features)
    from scipy.special import softmax

    scores = fitted.decision_function(features)
    return softmax(np.column_stack([-scores, scores]) if scores.ndim == 1 else scores, axis=1)
