"""Votes among the cells of a batch that has no labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ._calibration import TINY, temperature_of_confidence, tempered
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
    own
        Probabilities of each cell by itself, float32 ``(a, n_labels)``.
    probabilities
        The smoothed ones, float32 ``(a, n_labels)``.
    batch
        int64 ``(a,)``.
    temperature
        By which the votes of each batch are sharpened, so that their mean confidence is the share of cells that they leave
        as they were, float64 ``(n_batches,)`` in the order of :attr:`batches`.
    """

    latent: Floats
    own: Floats
    probabilities: Floats
    batch: npt.NDArray[np.int64]
    temperature: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, n_latent: int, n_labels: int) -> Neighbourhood:
        """Without any cell."""
        latent, own = np.empty((0, n_latent), dtype=np.float32), np.empty((0, n_labels), dtype=np.float32)
        return cls.fit(latent, own, np.empty(0, dtype=np.int64))

    @classmethod
    def fit(cls, latent: Floats, own: Floats, batch: npt.NDArray[np.int64]) -> Neighbourhood:
        """Spread the probabilities of cells within their batches, all without labels; arguments as the attributes."""
        spread, temperatures = own.copy(), []
        for one in np.unique(batch):
            rows = np.flatnonzero(batch == one)
            spread[rows] = _spread(latent[rows], own[rows])
            votes = _votes(latent[rows], own[rows], latent[rows], spread[rows])
            kept = float((votes.argmax(axis=1) == own[rows].argmax(axis=1)).mean())
            temperatures.append(temperature_of_confidence(votes, kept))
        return cls(latent, own, spread, batch, np.array(temperatures, dtype=np.float64))

    @property
    def batches(self) -> npt.NDArray[np.int64]:
        """Codes of the batches that vote."""
        return np.unique(self.batch)

    def beside(self, other: Neighbourhood) -> Neighbourhood:
        """These votes, and those of another neighbourhood for the batches that only it has."""
        theirs = ~np.isin(other.batch, self.batches)
        pairs = ((getattr(self, name), getattr(other, name)[theirs]) for name in ("latent", "own", "probabilities"))
        latent, own, probabilities = (np.concatenate(pair) for pair in pairs)
        batch = np.concatenate([self.batch, other.batch[theirs]])
        known = dict(zip(other.batches, other.temperature, strict=True)) | dict(
            zip(self.batches, self.temperature, strict=True)
        )
        temperature = np.array([known[one] for one in np.unique(batch)], dtype=np.float64)
        return Neighbourhood(latent, own, probabilities, batch, temperature)

    def retempered(self, factor: float) -> Neighbourhood:
        """The same cells, after the temperature of their own probabilities has changed by a factor."""
        return self.fit(self.latent, tempered(self.own, factor, smallest=TINY), self.batch)

    def vote(self, cells: CellFeatures, own: Floats) -> Floats:
        """Probabilities of cells: those of the batches without labels together with their neighbours."""
        result = own.copy()
        for batch, temperature in zip(self.batches, self.temperature, strict=True):
            rows = np.flatnonzero(cells.batch == batch)
            if len(rows):
                votes = tempered(self._votes(batch, cells.latent[rows], own[rows]), float(temperature))
                result[rows] = (1 - DISAGREEMENT) * votes + DISAGREEMENT / own.shape[1]
        return result

    def disagreement(self) -> Floats:
        """Nonconformity of what the neighbours of each voting cell say, by its own probabilities, float32 ``(a,)``."""
        said = np.zeros(len(self.batch), dtype=np.int64)
        for batch in self.batches:
            rows = self.batch == batch
            said[rows] = self._votes(batch, self.latent[rows], self.own[rows]).argmax(axis=1)
        return 1 - self.own[np.arange(len(said)), said]

    def _votes(self, batch: np.int64, latent: Floats, own: Floats) -> Floats:
        among = self.batch == batch
        return _votes(latent, own, self.latent[among], self.probabilities[among])


def representatives(batch: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Cells that stand for the others of their batch: of each that is large enough at most 10,000, evenly over it."""
    parts = [np.arange(0)]
    for one in np.unique(batch):
        rows = np.flatnonzero(batch == one)
        if len(rows) >= _MIN_CELLS:
            parts.append(rows[np.linspace(0, len(rows) - 1, min(len(rows), _MAX_CELLS)).round().astype(int)])
    return np.concatenate(parts)


def _votes(latent: Floats, own: Floats, voters: Floats, probabilities: Floats) -> Floats:
    """Probabilities of cells, averaged with the smoothed ones of the nearest voters."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(_N_NEIGHBOURS, len(voters))).fit(voters)
    nearest = search.kneighbors(latent, return_distance=False)
    return (1 - _SHARE) * own + _SHARE * probabilities[nearest].mean(axis=1)


def _spread(latent: Floats, own: Floats) -> Floats:
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(latent, min(_N_NEIGHBOURS, len(latent) - 1), mode="connectivity", include_self=False)
    graph = graph.maximum(graph.T)
    steps = sp.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph
    spread = own
    for _ in range(_ROUNDS):
        spread = _SHARE * (steps @ spread) + (1 - _SHARE) * own
    return spread.astype(np.float32)
