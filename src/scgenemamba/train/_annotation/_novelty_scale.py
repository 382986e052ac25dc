"""From novelty distances to a score."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ._features import Floats

#: Share of cells of known labels whose score is below the threshold.
KNOWN_BELOW = 0.95
# Cells of a label at which the median of their distances counts as much as that of all cells.
_HALF_BELIEVED = 20
# What a study may add to the distances of its cells is read off the quarter of them that is least unlike, since most may
# be new; and it is never more than this, since all may be: studies add 1 to 2, new types 6 to 11 (blood cells).
_LEAST_UNLIKE, _LARGEST_SHIFT = 0.25, 1.5
# float32 holds its exponential
_LARGEST_LOG = 80.0


@dataclass(frozen=True)
class NoveltyScale:
    """What distances cells of known labels have, and what batches without labels add to them.

    Labels lie more or less densely: by one median for all, cells of a rare label would count as new. And all cells of another
    study are a little unlike the labelled ones.

    Attributes
    ----------
    medians, spread
        Of the distances of cells of known labels: their median by nearest label, float32 ``(n_means, 2)``, and the
        spread about it, float32 ``(2,)``.
    threshold, quartile
        Sums of standardised distances that 95 % and a quarter of the cells of known labels stay below, float64 ``()``.
    batches, shifts
        Batches without labels, int64 ``(s,)``, and what they add to the sum, float64 ``(s,)``.
    """

    medians: Floats
    spread: Floats
    threshold: npt.NDArray[np.float64]
    quartile: npt.NDArray[np.float64]
    batches: npt.NDArray[np.int64]
    shifts: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, distances: Floats, nearest: npt.NDArray[np.int64], n_labels: int) -> NoveltyScale:
        """Fit to cells of known labels.

        Parameters
        ----------
        distances, nearest
            Of :meth:`Novelty.distances <scgenemamba.train._annotation._novelty.Novelty.distances>`, of cells that it was
            not fitted to.
        n_labels
            Number of labels that can be the nearest.
        """
        everyones = np.median(distances, axis=0)
        medians = np.empty((n_labels, 2), dtype=np.float32)
        for label in range(n_labels):
            own = distances[nearest == label]
            share = len(own) / (len(own) + _HALF_BELIEVED)
            medians[label] = share * np.median(own, axis=0) + (1 - share) * everyones if len(own) else everyones
        rest = distances - medians[nearest]
        low, high = np.quantile(rest, [0.25, 0.75], axis=0)
        spread = np.maximum(high - low, 1e-3).astype(np.float32)
        quartile, limit = np.quantile((rest / spread).sum(axis=1), [_LEAST_UNLIKE, KNOWN_BELOW])
        nothing = np.arange(0)
        return cls(medians, spread, np.array(limit), np.array(quartile), nothing, nothing.astype(np.float64))

    def shifted(self, distances: Floats, nearest: npt.NDArray[np.int64], batch: npt.NDArray[np.int64]) -> NoveltyScale:
        """The same, with the shifts of further batches, from the distances of cells of theirs."""
        sums, shifts = self._sums(distances, nearest), dict(zip(self.batches, self.shifts, strict=True))
        for one in np.unique(batch):
            quartile = np.quantile(sums[batch == one], _LEAST_UNLIKE)
            shifts[one] = float(np.clip(quartile - self.quartile, 0, _LARGEST_SHIFT))
        names = np.array(sorted(shifts), dtype=np.int64)
        return replace(self, batches=names, shifts=np.array([shifts[one] for one in names], dtype=np.float64))

    def score(self, distances: Floats, nearest: npt.NDArray[np.int64], batch: npt.NDArray[np.int64]) -> Floats:
        """Novelty, float32 ``(n,)``; above 1 a cell is less like the labelled cells than 95 % of them."""
        logs = self._sums(distances, nearest) - self.threshold
        for one, shift in zip(self.batches, self.shifts, strict=True):
            logs[batch == one] -= shift
        return np.exp(np.minimum(logs, _LARGEST_LOG)).astype(np.float32)

    def _sums(self, distances: Floats, nearest: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        return ((distances - self.medians[nearest]) / self.spread).sum(axis=1, dtype=np.float64)
