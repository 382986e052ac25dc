"""Published downstream tokenisation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import _official, official_downstream


def slowly(dense, token_ids, max_tokens):
    """One cell after the other, with Python's stable sort."""
    cells = []
    for row in dense:
        order = sorted(range(len(row)), key=lambda column: -float(row[column]))[:max_tokens]
        cells.append([max(int(token_ids[column]), 0) for column in order])
    return np.array(cells, dtype=np.int32)


@pytest.mark.parametrize("kind", [sp.csr_matrix, np.asarray])
@pytest.mark.parametrize("max_tokens", [1, 7, 30, 99, None])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16])
def test_equal_to_a_slow_one(kind, max_tokens, dtype, monkeypatch):
    monkeypatch.setattr(_official, "_CHUNK", 100)
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.8, size=(20, 30)).astype(dtype)
    token_ids = rng.integers(-1, 25, size=30).astype(np.int32)
    token_ids[token_ids == 1] = -1
    cells = official_downstream(kind(dense), token_ids, max_tokens)
    assert np.array_equal(cells.tokens.reshape(20, -1), slowly(dense, token_ids, max_tokens))
    assert cells.tokens.dtype == np.int32
    assert cells.cu_seqlens.tolist() == [i * min(max_tokens or 30, 30) for i in range(21)]


def test_zeros_and_unknown_genes_are_tokens():
    cells = official_downstream(sp.csr_matrix([[0.0, 2.0, 0.0, 5.0]]), np.array([2, 3, 4, -1], dtype=np.int32), 4)
    assert cells.tokens.tolist() == [0, 3, 2, 4]


def test_no_cells():
    cells = official_downstream(sp.csr_matrix((0, 3)), np.array([2, 3, 4], dtype=np.int32), 2)
    assert cells.tokens.tolist() == []
    assert cells.cu_seqlens.tolist() == [0]


def test_unsuitable_arguments_are_refused():
    matrix = sp.csr_matrix((2, 3))
    with pytest.raises(ValueError, match="Expected 3 token ids"):
        official_downstream(matrix, np.zeros(2, dtype=np.int32), 2)
    with pytest.raises(ValueError, match="at least 1"):
        official_downstream(matrix, np.zeros(3, dtype=np.int32), 0)
