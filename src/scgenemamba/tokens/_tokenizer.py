"""Rank tokenizer: expression values in, gene tokens from most to least expressed out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp


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
    ) -> None:
        if max_tokens is not None and max_tokens < 1:
            msg = f"max_tokens must be at least 1, got {max_tokens}."
            raise ValueError(msg)
        self.factors = np.asarray(factors, dtype=np.float64)
        self.max_tokens = max_tokens
        self.cls_id = cls_id
        self._usable = np.isfinite(self.factors) & (self.factors > 0)

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
            counts = counts.sorted_indices()
        cells = [
            self._rank(
                counts.indices[counts.indptr[i] : counts.indptr[i + 1]],
                counts.data[counts.indptr[i] : counts.indptr[i + 1]],
            )
            for i in range(counts.shape[0])
        ]
        lengths = np.fromiter((len(cell) for cell in cells), dtype=np.int64, count=len(cells))
        tokens = np.concatenate(cells).astype(np.int32, copy=False) if cells else np.empty(0, np.int32)
        return RankedCells(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def _rank(self, ids: npt.NDArray[np.int32], values: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        keep = self._usable[ids] & (values > 0)
        ids, values = ids[keep], values[keep]
        # ids ascend, so a stable sort breaks ties by token id
        order = np.argsort(-(values / self.factors[ids]), kind="stable")
        ranked = ids[order[: self.max_tokens]]
        return ranked if self.cls_id is None else np.concatenate([[self.cls_id], ranked])
