"""Rank tokenizer: expression values in, gene tokens from most to least expressed out."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

# starting a thread takes as long as a few dozen rows
_ROWS_PER_THREAD = 256


class RankedCells(NamedTuple):
    """Ragged tokens of a batch of cells.

    Attributes
    ----------
    tokens
        int32, shape ``(t,)``, the cells' sequences end to end.
    cu_seqlens
        int64, shape ``(n_cells + 1,)``; cell ``i`` owns ``tokens[cu_seqlens[i]:cu_seqlens[i + 1]]``.
    """

    tokens: npt.NDArray[np.int32]
    cu_seqlens: npt.NDArray[np.int64]


class RankTokenizer:
    """Order the genes of each cell by expression relative to their usual expression (paper, Eq. 2).

    A gene's score is its value divided by the gene's factor (see :func:`nonzero_medians`). The cell's
    library size divides all scores of a cell alike, hence does not change their order, and is left out
    so that rounding cannot change it either. Zeros are never tokens. Equal scores are ordered by token
    id, so that the result does not depend on the order of columns.

    Parameters
    ----------
    factors
        Factor of each token id, shape ``(n_tokens,)``. Tokens whose factor is not finite and positive
        (specials, genes never seen) are left out.
    max_tokens
        Genes kept per cell, ``None`` for all.
    cls_id
        Token id put in front of each cell (not counted in ``max_tokens``), ``None`` for none.
    n_threads
        Threads for large batches, ``None`` for one per core; the result is the same.

    Examples
    --------
    >>> tokenizer = RankTokenizer(np.array([np.nan, np.nan, 1.0, 10.0, 2.0]))
    >>> tokenizer(sp.csr_matrix([[0.0, 0.0, 3.0, 9.0, 8.0]])).tokens
    array([4, 2, 3], dtype=int32)
    """

    def __init__(
        self,
        factors: npt.NDArray[np.float64],
        *,
        max_tokens: int | None = None,
        cls_id: int | None = None,
        n_threads: int | None = None,
    ) -> None:
        if max_tokens is not None and max_tokens < 1:
            msg = f"max_tokens must be at least 1, got {max_tokens}."
            raise ValueError(msg)
        self.factors = np.asarray(factors, dtype=np.float64)
        self.max_tokens = max_tokens
        self.cls_id = cls_id
        self.n_threads = n_threads or os.cpu_count() or 1
        self._usable_factors = np.where(np.isfinite(self.factors), self.factors, 0.0)

    def __call__(self, counts: sp.csr_matrix) -> RankedCells:
        """Tokens of each cell.

        Parameters
        ----------
        counts
            Linear values in token space (see :func:`to_token_space`), shape ``(n_cells, n_tokens)``.

        Raises
        ------
        ValueError
            If the matrix does not have one column per token id.
        """
        if counts.shape[1] != len(self.factors):
            msg = f"Expected {len(self.factors)} columns, one per token id, got {counts.shape[1]}."
            raise ValueError(msg)
        if not counts.has_sorted_indices:
            # there and back is a sort in linear time
            counts = counts.tocsc().tocsr()
        from . import _kernels

        rows = (*_kernels.parts_of(counts), self._usable_factors)
        lengths = np.empty(counts.shape[0], dtype=np.int64)
        _kernels.count_tokens(*rows, lengths)
        if self.max_tokens is not None:
            np.minimum(lengths, self.max_tokens, out=lengths)
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths + (self.cls_id is not None))]).astype(np.int64)
        tokens = np.empty(cu_seqlens[-1], dtype=np.int32)
        if self.cls_id is not None:
            tokens[cu_seqlens[:-1]] = self.cls_id
        self._in_threads(partial(_kernels.rank_rows, *rows, cu_seqlens[1:] - lengths, lengths, tokens), len(lengths))
        return RankedCells(tokens, cu_seqlens)

    def _in_threads(self, work: Callable[[int, int], None], n_rows: int) -> None:
        """Do the work on rows ``[first, last)`` that make up all rows."""
        n_threads = min(self.n_threads, n_rows // _ROWS_PER_THREAD)
        if n_threads < 2:
            return work(0, n_rows)
        bounds = np.linspace(0, n_rows, n_threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(n_threads) as threads:
            list(threads.map(work, bounds[:-1], bounds[1:]))
