"""Two logistic regressions, on the expression of genes and on the latent, whose probabilities are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from ._features import CellFeatures, Floats

#: Share of the latent's head in the probabilities.
LATENT_SHARE = 0.3
_STRENGTH = {"genes": 0.1, "latent": 1.0}
# of a label without training cells: never predicted
_ABSENT = -50.0
_MAX_ITERATIONS = 300


@dataclass(frozen=True)
class Heads:
    """Balanced logistic regressions: rare labels weigh as much as common ones.

    Attributes
    ----------
    gene_weight, gene_bias
        float32 ``(g, n_labels)`` and ``(n_labels,)``.
    latent_weight, latent_bias
        float32 ``(n_latent, n_labels)`` and ``(n_labels,)``.
    """

    gene_weight: Floats
    gene_bias: Floats
    latent_weight: Floats
    latent_bias: Floats

    @classmethod
    def fit(cls, cells: CellFeatures, labels: npt.NDArray[np.int64], n_labels: int) -> Heads:
        """Fit both to labelled cells, with scikit-learn."""
        genes = fit_logistic(cells.values, labels, n_labels, _STRENGTH["genes"])
        return cls(*genes, *fit_logistic(cells.latent, labels, n_labels, _STRENGTH["latent"]))

    def probabilities(self, cells: CellFeatures) -> Floats:
        """Probabilities of the labels, float32 ``(n, n_labels)``."""
        genes = softmax(np.asarray(cells.values @ self.gene_weight) + self.gene_bias, axis=1)
        latent = softmax(cells.latent @ self.latent_weight + self.latent_bias, axis=1)
        return ((1 - LATENT_SHARE) * genes + LATENT_SHARE * latent).astype(np.float32)


def fit_logistic(x: Any, labels: npt.NDArray[np.int64], n_labels: int, strength: float) -> tuple[Floats, Floats]:
    """Weights ``(g, n_labels)`` and biases ``(n_labels,)`` of a balanced logistic regression, float32.

    Parameters
    ----------
    x
        Features, dense or sparse, ``(n, g)``.
    labels
        Codes, int64 ``(n,)``.
    n_labels
        Number of labels; those without cells are never predicted.
    strength
        Inverse of the penalty, as scikit-learn's ``C``.
    """
    from sklearn.linear_model import LogisticRegression

    weight = np.zeros((x.shape[1], n_labels), dtype=np.float32)
    bias = np.full(n_labels, _ABSENT, dtype=np.float32)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0.0
        return weight, bias
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=_MAX_ITERATIONS).fit(x, labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(present) == 2:
        # one column says all; the softmax of its halves is its sigmoid
        coefficients = np.stack([-coefficients[0], coefficients[0]]) / 2
        intercepts = np.array([-intercepts[0], intercepts[0]]) / 2
    weight[:, present], bias[present] = coefficients.T, intercepts
    return weight, bias
