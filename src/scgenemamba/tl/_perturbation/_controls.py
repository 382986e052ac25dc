"""Genes that stand in for others: as strongly expressed in the same cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# neighbours on each side
_NEIGHBOURS = 10
_REACH = 50


def beside(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Median of the values of the 20 genes that stand nearest to each, ``(l,)`` in the order of the ranking; NaN for a single gene."""
    n = len(values)
    width = min(2 * _NEIGHBOURS + 1, n)
    if n < 2:
        return np.full(n, np.nan)
    start = np.clip(np.arange(n) - _NEIGHBOURS, 0, n - width)
    place = start[:, None] + np.arange(width)
    others = place != np.arange(n)[:, None]
    return np.median(values[place[others].reshape(n, width - 1)], axis=1)


class Controls:
    """Draws genes in place of others.

    Parameters
    ----------
    rankings
        Tokens of each cell, from most to least expressed.
    n_tokens
        Size of the vocabulary.
    seed
        Seed of the draws; those of a cell do not depend on the others.
    """

    def __init__(self, rankings: Sequence[npt.NDArray[np.int32]], n_tokens: int, seed: int) -> None:
        self._n_cells = np.bincount(np.concatenate(rankings), minlength=n_tokens)
        shown = np.flatnonzero(self._n_cells)
        self._by_n_cells = shown[np.argsort(self._n_cells[shown], kind="stable")].astype(np.int32)
        self._seed = seed

    def draw(
        self, cell: int, ranking: npt.NDArray[np.int32], change: npt.NDArray[np.int32], n: int
    ) -> list[npt.NDArray[np.int32]]:
        """As many sets of genes as asked for, each like ``change``.

        A gene that the cell expresses is replaced by one of the 100 that stand nearest to it, another by one of those that about as many
        cells express and that this one does not. Where there is none, there are no sets.
        """
        generator = np.random.default_rng([self._seed, cell, *change.tolist()])
        columns = []
        for gene in change:
            (place,) = np.nonzero(ranking == gene)
            pool = _around(ranking, place[0]) if len(place) else self._not_expressed(ranking, gene)
            pool = pool[~np.isin(pool, change)]
            if not len(pool):
                return []
            columns.append(generator.choice(pool, size=n, replace=len(pool) < n))
        # a gene may be drawn in place of two: once is enough
        return [np.unique(row) for row in np.stack(columns, axis=1)]

    def _not_expressed(self, ranking: npt.NDArray[np.int32], gene: int) -> npt.NDArray[np.int32]:
        free = self._by_n_cells[~np.isin(self._by_n_cells, ranking)]
        return _around(free, int(np.searchsorted(self._n_cells[free], self._n_cells[gene])))


def _around(genes: npt.NDArray[np.int32], place: int) -> npt.NDArray[np.int32]:
    start = max(0, min(place - _REACH, len(genes) - 2 * _REACH))
    return genes[start : start + 2 * _REACH + 1]
