"""Fitting the annotation to embedded training cells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._annotator import Annotator
from ._calibration import fit_temperature, nonconformity, tempered
from ._features import CellFeatures, Floats
from ._heads import Heads
from ._neighbourhood import Neighbourhood
from ._novelty import Novelty
from ._novelty_scale import NoveltyScale

# Labelled cells that the heads are fitted to at most, evenly over the labels, and those for calibration beside them.
_MAX_FITTED = 20_000
_MAX_CALIBRATION = 5_000
# Few are still fairer than cells whose labels have shaped the latent.
_MIN_CALIBRATION = 30
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

    Calibration takes the labelled cells that training held out, if there are at least 30; else each labelled
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
    chosen, calibration = choose_labelled(labels, held_out, seed)
    known, codes = cells[chosen], labels[chosen]
    own, right, distances, nearest = unseen_by_folds(known, codes, n_labels, calibration, cells)
    temperature = fit_temperature(own, right)
    # the novelty knows the labels that have cells
    present = np.unique(codes)
    annotator = Annotator(
        Heads.fit(known, codes, n_labels),
        Neighbourhood.empty(cells.latent.shape[1], n_labels),
        Novelty.fit(known, codes, cells),
        NoveltyScale.fit(distances, np.searchsorted(present, nearest), len(present)),
        np.array(temperature),
        nonconformity(tempered(own, temperature), right),
        np.empty(0, dtype=np.float32),
    )
    return annotator.extended(cells[np.isin(cells.batch, unlabelled_batches(cells.batch, labels))])


def choose_labelled(
    labels: npt.NDArray[np.int64], held_out: npt.NDArray[np.bool_], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Labelled cells that the annotation is fitted to, and which of those are held out for calibration.

    Where there are many, labels share the places evenly, except for calibration: its cells are drawn at random,
    since sets hold what they promise only for cells like those they were calibrated on.
    """
    labelled = np.flatnonzero(labels >= 0)
    if len(labelled) <= _MAX_FITTED + _MAX_CALIBRATION:
        rows = labelled[balanced_order(labels[labelled], seed)]
        return rows, held_out[rows]
    unseen = labelled[held_out[labelled]]
    drawn = np.random.default_rng(seed).permutation(unseen if len(unseen) >= _MIN_CALIBRATION else labelled)
    drawn = drawn[:_MAX_CALIBRATION]
    others = np.setdiff1d(labelled, drawn)
    # labels that would be left without a cell
    alone = ~np.isin(labels[drawn], labels[others])
    others, drawn = np.concatenate([others, drawn[alone]]), drawn[~alone]
    others = others[balanced_order(labels[others], seed)][:_MAX_FITTED]
    return np.concatenate([others, drawn]), np.arange(len(others) + len(drawn)) >= len(others)


def unseen_by_folds(
    cells: CellFeatures,
    labels: npt.NDArray[np.int64],
    n_labels: int,
    held_out: npt.NDArray[np.bool_],
    everyone: CellFeatures,
) -> tuple[Floats, npt.NDArray[np.int64], Floats, npt.NDArray[np.int64]]:
    """Probabilities, labels, novelty distances and nearest labels of labelled cells, from fits that have not seen them."""
    if held_out.sum() >= _MIN_CALIBRATION and np.isin(labels[held_out], labels[~held_out]).all():
        folds = [held_out]
    else:
        folds = _folds(labels)
    found = []
    for fold in folds:
        rest = ~fold if not fold.all() else fold
        heads = Heads.fit(cells[rest], labels[rest], n_labels)
        novelty = Novelty.fit(cells[rest], labels[rest], everyone)
        distances, nearest = novelty.distances(cells[fold])
        found.append((heads.probabilities(cells[fold]), labels[fold], distances, np.unique(labels[rest])[nearest]))
    own, right, distances, nearest = (np.concatenate(part) for part in zip(*found, strict=True))
    return own, right, distances, nearest


def _folds(labels: npt.NDArray[np.int64]) -> list[npt.NDArray[np.bool_]]:
    """Cells of each fold; every label has its share in each, and not all labels start with the same one."""
    fold = np.empty(len(labels), dtype=np.int64)
    for start, label in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == label)
        fold[rows] = (start + np.arange(len(rows))) % _N_FOLDS
    return [fold == one for one in np.unique(fold)]


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
