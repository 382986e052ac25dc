"""Cells that are there twice, found by a number for each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pandas.util import hash_array

# odd, so that no bit of a token is lost
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def print_cells(counts: sp.csr_matrix) -> npt.NDArray[np.uint64]:
    """A number for each cell that is the same for cells with the same values of the same genes.

    Parameters
    ----------
    counts
        Cells in token space, CSR ``(n_cells, n_tokens)``, without stored zeros.

    Returns
    -------
    uint64 ``(n_cells,)``; 0 for cells without any gene.
    """
    with np.errstate(over="ignore"):
        of_value = hash_array(counts.data.astype(np.float32))
        entry = hash_array(counts.indices.astype(np.uint64) * _FACTOR + of_value)
        # a sum does not depend on the order of the genes
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(entry, dtype=np.uint64)])
        return total[counts.indptr[1:]] - total[counts.indptr[:-1]]


class CellPrints:
    """Numbers of all cells so far, eight bytes for each."""

    def __init__(self) -> None:
        self._seen = np.empty(0, dtype=np.uint64)

    def add(self, prints: npt.NDArray[np.uint64]) -> int:
        """Add cells; returns how many of them were there before or are there several times."""
        some = prints[prints != 0]
        fresh = np.setdiff1d(some, self._seen)
        self._seen = np.concatenate([self._seen, fresh])
        return len(some) - len(fresh)
