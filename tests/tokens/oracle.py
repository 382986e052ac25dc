"""Rank tokens as a NumPy loop over cells: what the compiled tokenizer has to equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from scgenemamba.tokens import RankedCells


def ranked_by_loop(
    counts: sp.csr_matrix,
    factors: npt.NDArray[np.float64],
    max_tokens: int | None = None,
    cls_id: int | None = None,
) -> RankedCells:
    """Tokens of each cell."""
    counts = counts.sorted_indices()
    usable = np.isfinite(factors) & (factors > 0)
    cells = []
    for start, end in zip(counts.indptr[:-1], counts.indptr[1:], strict=True):
        ids, values = counts.indices[start:end], counts.data[start:end]
        keep = usable[ids] & (values > 0)
        ids, values = ids[keep], values[keep]
        # ids ascend, so a stable sort breaks ties by token id
        order = np.argsort(-(values / factors[ids]), kind="stable")
        special = [] if cls_id is None else [cls_id]
        cells.append(np.concatenate([special, ids[order[:max_tokens]]]).astype(np.int32))
    lengths = [len(cell) for cell in cells]
    tokens = np.concatenate(cells) if cells else np.empty(0, np.int32)
    return RankedCells(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
