"""Tokens as GeneMamba's published downstream scripts make them, to compare with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ._tokenizer import RankedCells
from ._vocabulary import Vocabulary

# values of a dense chunk, 32 MB of float64
_CHUNK = 1 << 22


def official_downstream(
    matrix: sp.csr_matrix | npt.NDArray[np.float64], token_ids: npt.NDArray[np.int32], max_tokens: int | None
) -> RankedCells:
    """Published downstream tokenisation, for parity only; :class:`RankTokenizer` is the one to use.

    All features of a cell are ranked by their values as they stand, largest first and equal ones by column.
    Zeros take part, and unknown genes become ``[UNK]`` (0); several features of one gene stay several tokens.

    Parameters
    ----------
    matrix
        Values, dense or CSR, shape ``(n_cells, n_features)``.
    token_ids
        Token of each column, shape ``(n_features,)``; -1 where it is unknown.
    max_tokens
        Tokens kept per cell, ``None`` for all.

    Returns
    -------
    As many tokens for each cell: ``max_tokens``, or ``n_features`` where that is less.

    Raises
    ------
    ValueError
        If there is not one token id per column, or ``max_tokens`` is not positive.
    """
    n_cells, n_features = matrix.shape
    if len(token_ids) != n_features:
        msg = f"Expected {n_features} token ids, one per column, got {len(token_ids)}."
        raise ValueError(msg)
    if max_tokens is not None and max_tokens < 1:
        msg = f"max_tokens must be at least 1, got {max_tokens}."
        raise ValueError(msg)
    width = n_features if max_tokens is None else min(max_tokens, n_features)
    column_tokens = np.where(token_ids < 0, Vocabulary.UNK, token_ids).astype(np.int32)
    tokens = np.empty((n_cells, width), dtype=np.int32)
    n_rows = max(_CHUNK // max(n_features, 1), 1)
    for start in range(0, n_cells, n_rows):
        chunk: Any = matrix[start : start + n_rows]
        values = np.asarray(chunk.toarray() if sp.issparse(chunk) else chunk, dtype=np.float64)
        order = np.argsort(-values, axis=1, kind="stable")[:, :width]
        tokens[start : start + n_rows] = column_tokens[order]
    return RankedCells(tokens.ravel(), np.arange(n_cells + 1, dtype=np.int64) * width)
