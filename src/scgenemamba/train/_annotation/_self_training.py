"""Labels for studies that have none, so that a classifier learns from more than one technology."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from ._features import CellFeatures, Floats
from ._heads import fit_logistic

_STRENGTH = {"genes": 0.001, "latent": 1.0}
_LATENT_SHARE = 1 / 3
# probability above which a guess counts as a label
_SURE = 0.5
# of standardised values: rare genes would weigh too much; and of their standard deviations
_LARGEST, _SMALLEST_DEVIATION = 5.0, 0.01


def with_guesses(cells: CellFeatures, labels: npt.NDArray[np.int64], n_labels: int) -> npt.NDArray[np.int64]:
    """Labels, and in batches without any what two classifiers together are sure of (self-training, Scudder 1965).

    One reads the genes, standardised within each study: technologies differ in single genes by more than types do, and by
    their own mean and spread they become alike. The other reads the latent, which does not depend on what a study is made
    of. Their mean, of which the second is a third, has to be above one half.

    Parameters
    ----------
    cells
        Of several studies; their batches are the studies.
    labels
        Codes, int64 ``(n,)``, negative without a label.
    n_labels
        Number of labels.

    Returns
    -------
    Codes, int64 ``(n,)``, negative where there still is none.
    """
    known = labels >= 0
    studies = np.setdiff1d(cells.batch, cells.batch[known])
    if not known.any() or not len(studies):
        return labels
    taught = [np.flatnonzero(cells.batch == one) for one in np.unique(cells.batch[known])]
    values = np.concatenate([_standardised(cells[rows])[known[rows]] for rows in taught])
    codes = np.concatenate([labels[rows[known[rows]]] for rows in taught])
    genes = fit_logistic(values, codes, n_labels, _STRENGTH["genes"])
    latent = fit_logistic(cells.latent[known], labels[known], n_labels, _STRENGTH["latent"])
    found = labels.copy()
    for study in studies:
        rows = np.flatnonzero(cells.batch == study)
        own = _probabilities(_standardised(cells[rows]), *genes)
        both = own + _LATENT_SHARE * (_probabilities(cells.latent[rows], *latent) - own)
        found[rows] = np.where(both.max(axis=1) > _SURE, both.argmax(axis=1), -1)
    return found


def _standardised(cells: CellFeatures) -> Floats:
    values = cells.values.toarray()
    values -= values.mean(axis=0)
    values /= values.std(axis=0) + _SMALLEST_DEVIATION
    return np.clip(values, -_LARGEST, _LARGEST, out=values)


def _probabilities(values: Floats, weight: Floats, bias: Floats) -> Floats:
    return np.asarray(softmax(values @ weight + bias, axis=1), dtype=np.float32)
