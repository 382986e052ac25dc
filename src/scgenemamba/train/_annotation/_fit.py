"""Fitting the annotation to embedded training cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._annotator import Annotator, known_distances
from ._calibration import fit_temperature, nonconformity, tempered
from ._features import CellFeatures, Floats
from ._heads import Heads
from ._neighbourhood import Neighbourhood
from ._novelty import Novelty

#: Labelled cells that the heads are fitted to at most, evenly over the labels.
MAX_LABELLED = 20_000
_MIN_CALIBRATION = 100
_N_FOLDS = 5


def fit_annotator(
    cells: CellFeatures,
    labels: npt.NDArray[np.int64],
    n_labels: int,
    *,
    held_out: npt.NDArray[np.bool_],
    seed: int = 0,
) -> Annotator:
    """Fit heads to the labelled cells, calibrate them on cells they have not seen, and let unlabelled batches vote.

    Calibration takes the labelled cells that training held out, if there are at least 100; else each labelled
    cell as seen by heads fitted to the other four fifths. Then the heads are fitted to all labelled cells.

    Parameters
    ----------
    cells
        Training cells, labelled or not.
    labels
        Codes, int64 ``(n,)``, negative without a label.
    n_labels
        Number of labels.
    held_out
        Cells that training did not see, bool ``(n,)``.
    seed
        Of the folds.
    """
    labelled = np.flatnonzero(labels >= 0)
    chosen = labelled[balanced_order(labels[labelled], seed)][:MAX_LABELLED]
    known, codes = cells[chosen], labels[chosen]
    own, right, distances = _unseen(known, codes, n_labels, held_out[chosen], cells)
    temperature = fit_temperature(own, right)
    heads = Heads.fit(known, codes, n_labels)
    median_and_spread, limit = known_distances(distances)
    everyone = tempered(heads.probabilities(cells), temperature)
    neighbourhood = Neighbourhood.fit(cells, everyone, unlabelled_batches(cells.batch, labels))
    return Annotator(
        heads,
        neighbourhood,
        Novelty.fit(known, codes, cells),
        np.array(temperature),
        nonconformity(tempered(own, temperature), right),
        neighbourhood.disagreement(cells, everyone),
        median_and_spread,
        limit,
    )


def _unseen(
    cells: CellFeatures,
    labels: npt.NDArray[np.int64],
    n_labels: int,
    held_out: npt.NDArray[np.bool_],
    everyone: CellFeatures,
) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """Probabilities, labels and novelty distances of labelled cells, from fits that have not seen them."""
    if held_out.sum() >= _MIN_CALIBRATION and np.isin(labels[held_out], labels[~held_out]).all():
        folds = [held_out]
    else:
        # in this order each fold has its share of every label
        folds = [np.arange(len(labels)) % _N_FOLDS == fold for fold in range(min(_N_FOLDS, len(labels)))]
    found = []
    for fold in folds:
        rest = ~fold if not fold.all() else fold
        heads = Heads.fit(cells[rest], labels[rest], n_labels)
        novelty = Novelty.fit(cells[rest], labels[rest], everyone)
        found.append((heads.probabilities(cells[fold]), labels[fold], novelty.distances(cells[fold])))
    own, right, distances = (np.concatenate(part) for part in zip(*found, strict=True))
    return own, right, distances


def balanced_order(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Cells in an order that takes turns among the labels, at random within each; rare labels end first."""
    order = np.random.default_rng(seed).permutation(len(labels))
    place = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = np.arange(len(rows))
    return np.lexsort((labels, place))


def unlabelled_batches(batches: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Codes of the known batches in which no cell has a label."""
    return np.setdiff1d(batches[batches >= 0], batches[labels >= 0])
