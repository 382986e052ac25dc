"""Fitting the annotation for studies that are not among the training cells."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._annotator import Annotator
from ._calibration import fit_temperature, nonconformity, tempered
from ._features import CellFeatures, Floats
from ._fit import balanced_order, unseen_by_folds
from ._heads import Heads
from ._neighbourhood import Neighbourhood
from ._novelty import Novelty
from ._novelty_scale import NoveltyScale
from ._self_training import with_guesses

# Cells that a fit reads at most, evenly over the labels.
_MAX_FITTED = 30_000


class _Unseen(NamedTuple):
    """What fits to other studies say of cells.

    Probabilities, labels or guesses, and which of these are labels; novelty distances and nearest labels.
    """

    own: Floats
    right: npt.NDArray[np.int64]
    distances: Floats
    nearest: npt.NDArray[np.int64]
    is_label: npt.NDArray[np.bool_]

    @classmethod
    def nothing(cls, n_labels: int) -> _Unseen:
        """Of no cell."""
        none, pairs = np.arange(0), np.empty((0, 2), dtype=np.float32)
        return cls(np.empty((0, n_labels), dtype=np.float32), none, pairs, none, np.zeros(0, dtype=bool))


def fit_across_studies(
    cells: CellFeatures, labels: npt.NDArray[np.int64], n_labels: int, *, seed: int = 0
) -> Annotator:
    """Fit heads and novelty to cells with labels and to those whose labels can be guessed, for studies to come.

    Each study is in turn left out, and what is fitted to the others calibrates probabilities, sets and novelty on it: they then
    mean for another study what they say. Probabilities are calibrated on labels and guesses: studies disagree on labels by
    more than their cells differ, guesses by less. Sets are calibrated on labels alone, unless only one study has any.

    Parameters
    ----------
    cells
        Of several studies, their batches; all are of the kinds that have labels, whether they have one or not.
    labels
        Codes, int64 ``(n,)``, negative without a label.
    n_labels
        Number of labels.
    seed
        Of the choice of cells where there are many.
    """
    codes = with_guesses(cells, labels, n_labels)
    known = _chosen(codes, seed)
    unseen = _unseen(cells, labels, codes, n_labels, seed)
    if not len(unseen.right):
        # there is only one study
        nobody = np.zeros(len(known), dtype=bool)
        found = unseen_by_folds(cells[known], codes[known], n_labels, nobody, cells)
        unseen = _Unseen(*found, np.zeros(len(known), dtype=bool))
    own, right, distances, nearest, is_label = unseen
    present, temperature = np.unique(codes[known]), fit_temperature(own, right)
    told = is_label if is_label.any() else ~is_label
    return Annotator(
        Heads.fit(cells[known], codes[known], n_labels),
        Neighbourhood.empty(cells.latent.shape[1], n_labels),
        Novelty.fit(cells[known], codes[known], cells),
        NoveltyScale.fit(distances, np.searchsorted(present, nearest), len(present)),
        np.array(temperature),
        nonconformity(tempered(own[told], temperature), right[told]),
        np.empty(0, dtype=np.float32),
    )


def _unseen(
    cells: CellFeatures,
    labels: npt.NDArray[np.int64],
    truth: npt.NDArray[np.int64],
    n_labels: int,
    seed: int,
) -> _Unseen:
    """What the other studies say of each, and its labels or guesses, ``truth``; labels that only one study has are left out."""
    found = [_Unseen.nothing(n_labels)]
    for study in np.unique(cells.batch):
        out = cells.batch == study
        rest, shown = cells[~out], labels[~out]
        if not (shown >= 0).any():
            continue
        codes = with_guesses(rest, shown, n_labels)
        known = _chosen(codes, seed)
        present = np.unique(codes[known])
        distances, nearest = Novelty.fit(rest[known], codes[known], rest).distances(cells[out])
        foreign = (truth[out] >= 0) & ~np.isin(truth[out], present)
        part = _Unseen.nothing(n_labels)._replace(distances=distances[~foreign], nearest=present[nearest][~foreign])
        judged = out & np.isin(truth, present)
        if judged.any():
            own = Heads.fit(rest[known], codes[known], n_labels).probabilities(cells[judged])
            part = part._replace(own=own, right=truth[judged], is_label=labels[judged] >= 0)
        found.append(part)
    return _Unseen(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def _chosen(codes: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    known = np.flatnonzero(codes >= 0)
    return np.sort(known[balanced_order(codes[known], seed)][:_MAX_FITTED])
