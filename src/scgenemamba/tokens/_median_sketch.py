"""Rank normalisation factors of more cells than memory holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ._medians import TARGET_SUM

# of a cell's 10,000: one count of a deep cell, and all of them
_SMALLEST, _LARGEST = 1e-2, TARGET_SUM
_N_BINS = 600
_RATIO = (_LARGEST / _SMALLEST) ** (1 / _N_BINS)


class MedianSketch:
    """Median of each gene's nonzero, scaled expression, over chunks of cells that come one after the other.

    A histogram per gene over the logarithm: bins are 2.3 % wide, and within a bin values are taken as evenly spread, so a
    median is off by 2.3 % at most. The result does not depend on how cells are cut into chunks, nor on their order.

    Parameters
    ----------
    n_tokens
        Number of token ids.

    Raises
    ------
    ImportError
        If boost-histogram is not installed.

    Examples
    --------
    >>> sketch = MedianSketch(n_tokens)
    >>> for chunk in chunks:
    ...     sketch.update(chunk)
    >>> sketch.medians()
    """

    def __init__(self, n_tokens: int) -> None:
        try:
            import boost_histogram as bh
        except ImportError as error:
            msg = 'Medians over files need boost-histogram: pip install "scgenemamba[pretrain]"'
            raise ImportError(msg) from error
        self.n_cells = 0
        self._histogram: Any = bh.Histogram(
            bh.axis.Integer(0, n_tokens, underflow=False, overflow=False),
            bh.axis.Regular(_N_BINS, _SMALLEST, _LARGEST, transform=bh.axis.transform.log),
            storage=bh.storage.Int64(),
        )

    def update(self, counts: sp.csr_matrix) -> None:
        """Add cells: linear values in token space, CSR ``(n_cells, n_tokens)``, without stored zeros."""
        totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
        scale = np.divide(TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
        self._histogram.fill(counts.indices, counts.data * np.repeat(scale, np.diff(counts.indptr)))
        self.n_cells += counts.shape[0]

    def add(self, other: MedianSketch) -> None:
        """Add the cells of another sketch of the same genes."""
        self._histogram += other._histogram
        self.n_cells += other.n_cells

    def medians(self) -> npt.NDArray[np.float64]:
        """Medians, float64 ``(n_tokens,)``; NaN for genes that no cell expresses."""
        found = self._histogram.view(flow=True)
        below = np.cumsum(found, axis=1)
        half = below[:, -1] / 2
        place = (below < half[:, None]).sum(axis=1)
        rows = np.arange(len(found))
        inside = np.maximum(found[rows, place], 1)
        part = (half - (below[rows, place] - found[rows, place])) / inside
        # place 0 is all that lies below the first bin
        medians = _SMALLEST * _RATIO ** (np.maximum(place - 1, 0) + np.where(place > 0, part, 0))
        medians[below[:, -1] == 0] = np.nan
        return np.minimum(medians, _LARGEST)
