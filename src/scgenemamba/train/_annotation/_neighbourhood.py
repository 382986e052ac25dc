"""Votes among the cells of a batch that has no labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ._calibration import nonconformity, temperature_of_confidence, tempered
from ._features import CellFeatures, Floats

_N_NEIGHBOURS = 15
_SHARE = 0.8
_ROUNDS = 10
_MIN_CELLS = 50
_MAX_CELLS = 10_000
#: Share of labels assumed to be drawn otherwise in another study: no data without labels can tell.
DISAGREEMENT = 0.05


@dataclass(frozen=True)
class Neighbourhood:
    """Smoothed probabilities of the training cells in batches without labels.

    A classifier of one study errs in another on single cells more than on groups. Where a batch shows no labels, its
    cells are classified together with their nearest neighbours of the same batch: label spreading (Zhou et al.
    2003) on the latent. The result is kept for these cells, so that any cell can be classified alone.

    Attributes
    ----------
    latent
        float32 ``(a, n_latent)``.
    probabilities
        float32 ``(a, n_labels)``.
    batch
        int64 ``(a,)``.
    temperature
        By which the votes are sharpened, so that their mean confidence is the share of cells that they leave
        as they were, float64 ``()``.
    """

    latent: Floats
    probabilities: Floats
    batch: npt.NDArray[np.int64]
    temperature: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, cells: CellFeatures, own: Floats, batches: npt.NDArray[np.int64]) -> Neighbourhood:
        """Spread the probabilities of the cells of the given batches.

        Parameters
        ----------
        cells
            Training cells.
        own
            Probabilities of each cell by itself, float32 ``(n, n_labels)``.
        batches
            Batches without labels.
        """
        parts = []
        for batch in batches:
            rows = np.flatnonzero(cells.batch == batch)
            if len(rows) < _MIN_CELLS:
                continue
            rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MAX_CELLS)).round().astype(int)]
            parts.append((cells.latent[rows], _spread(cells.latent[rows], own[rows]), cells.batch[rows]))
        if not parts:
            empty = np.zeros((0, own.shape[1]), dtype=np.float32)
            nowhere = np.zeros((0, cells.latent.shape[1]), dtype=np.float32)
            return cls(nowhere, empty, np.zeros(0, dtype=np.int64), np.array(1.0))
        latent, probabilities, codes = (np.concatenate(part) for part in zip(*parts, strict=True))
        found = cls(latent, probabilities, codes, np.array(1.0))
        voting = np.isin(cells.batch, found.batches)
        votes = found._votes(cells[voting], own[voting])
        kept = float((votes.argmax(axis=1) == own[voting].argmax(axis=1)).mean())
        return replace(found, temperature=np.array(temperature_of_confidence(votes, kept)))

    @property
    def batches(self) -> npt.NDArray[np.int64]:
        """Codes of the batches that vote."""
        return np.unique(self.batch)

    def vote(self, cells: CellFeatures, own: Floats) -> Floats:
        """Probabilities of cells: those of the batches without labels together with their neighbours."""
        result = own.copy()
        rows = np.isin(cells.batch, self.batches)
        if rows.any():
            votes = tempered(self._votes(cells[rows], own[rows]), float(self.temperature))
            result[rows] = (1 - DISAGREEMENT) * votes + DISAGREEMENT / own.shape[1]
        return result

    def disagreement(self, cells: CellFeatures, own: Floats) -> Floats:
        """Nonconformity of what the neighbours of each cell say, by the probabilities of the cell itself."""
        rows = np.isin(cells.batch, self.batches)
        if not rows.any():
            return np.zeros(0, dtype=np.float32)
        return nonconformity(own[rows], self._votes(cells[rows], own[rows]).argmax(axis=1))

    def _votes(self, cells: CellFeatures, own: Floats) -> Floats:
        from sklearn.neighbors import NearestNeighbors

        result = own.copy()
        for batch in self.batches:
            rows, among = np.flatnonzero(cells.batch == batch), np.flatnonzero(self.batch == batch)
            if len(rows):
                search = NearestNeighbors(n_neighbors=min(_N_NEIGHBOURS, len(among))).fit(self.latent[among])
                nearest = among[search.kneighbors(cells.latent[rows], return_distance=False)]
                result[rows] = (1 - _SHARE) * own[rows] + _SHARE * self.probabilities[nearest].mean(axis=1)
        return result


def _spread(latent: Floats, own: Floats) -> Floats:
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(latent, min(_N_NEIGHBOURS, len(latent) - 1), mode="connectivity", include_self=False)
    graph = graph.maximum(graph.T)
    steps = sp.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph
    spread = own
    for _ in range(_ROUNDS):
        spread = _SHARE * (steps @ spread) + (1 - _SHARE) * own
    return spread.astype(np.float32)
