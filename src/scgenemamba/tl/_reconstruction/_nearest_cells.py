"""What the cells most like a cell say of its hidden genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from scgenemamba.train import RankBaselines


class NearestCells:
    """Guesses hidden genes from the reference cells that are nearest by the genes that a cell shows.

    Near is a high cosine of the cells' genes, each weighted by one minus its place, from 0 for the first to 1 for the last one.
    A gene is as likely as the share of those cells that express it, times a normal density of the place around its mean place in
    them; with all cells behind them, see :meth:`~scgenemamba.train.RankBaselines.log_scores_near`.

    Parameters
    ----------
    cells
        Tokens of each reference cell in their order, cut as the model cuts them.
    baselines
        Learnt from the same cells.
    n_tokens
        Size of the vocabulary.
    n_neighbors
        Number of nearest cells.
    """

    def __init__(
        self,
        cells: Sequence[npt.NDArray[np.int64]],
        baselines: RankBaselines,
        n_tokens: int,
        n_neighbors: int,
    ) -> None:
        self._baselines, self.n_neighbors = baselines, n_neighbors
        bounds = np.cumsum([0, *(len(tokens) for tokens in cells)])
        places = np.concatenate([places_of(len(tokens)) for tokens in cells])
        self._places = sp.csr_matrix((places, np.concatenate(cells), bounds), shape=(len(cells), n_tokens))
        self._weights = self._places.copy()
        self._weights.data = 1.0 - places
        norms = np.sqrt(np.asarray(self._weights.multiply(self._weights).sum(1)).ravel())
        self._norms = np.where(norms > 0, norms, 1.0)

    def nearest(self, shown: npt.NDArray[np.int64], place: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Rows of the nearest reference cells, the nearest one first; of equally near ones, those that come first.

        Parameters
        ----------
        shown
            Tokens that the cell shows, ``(s,)``.
        place
            Where in the cell they stand, from 0 to 1, ``(s,)``.
        """
        cell = np.zeros(self._weights.shape[1])
        cell[shown] = 1.0 - place
        return np.argsort(-(self._weights @ cell) / self._norms, kind="stable")[: self.n_neighbors]

    def log_scores(
        self, shown: npt.NDArray[np.int64], shown_place: npt.NDArray[np.float64], place: torch.Tensor
    ) -> torch.Tensor:
        """How likely each token is at the hidden places, ``(h,)``: logarithms up to a constant, float64 ``(h, n_tokens)``."""
        found = self._places[self.nearest(shown, shown_place)]
        sums = np.stack(
            [
                np.bincount(found.indices, weights=found.data**power, minlength=found.shape[1]).astype(np.float64)
                for power in range(3)
            ]
        )
        return self._baselines.log_scores_near(place, torch.from_numpy(sums), found.shape[0])


def places_of(n: int) -> npt.NDArray[np.float64]:
    """Where the genes of a cell stand, from 0 to 1, float64 ``(n,)``."""
    return (np.arange(n) + 0.5) / max(n, 1)
