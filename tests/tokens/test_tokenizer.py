"""Rank tokens: order, ties, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from scgenemamba.tokens import RankTokenizer, Vocabulary, nonzero_medians, to_token_space


def slow_tokens(row: dict[int, float], factors: np.ndarray, max_tokens: int | None) -> list[int]:
    """The rules in one line of plain Python."""
    usable = [i for i, v in row.items() if v > 0 and np.isfinite(factors[i])]
    return sorted(usable, key=lambda i: (-row[i] / factors[i], i))[:max_tokens]


counts_matrices = st.integers(1, 12).flatmap(
    lambda genes: st.lists(st.lists(st.integers(0, 4), min_size=genes, max_size=genes), min_size=1, max_size=6)
)


@settings(max_examples=60, deadline=None)
@given(counts_matrices, st.integers(1, 12))
def test_tokens_follow_the_rules(rows, max_tokens):
    counts = sp.csr_matrix(np.pad(np.array(rows, dtype=float), ((0, 0), (2, 0))))
    counts.eliminate_zeros()
    factors = np.concatenate([[np.nan, np.nan], np.linspace(1, 2, counts.shape[1] - 2)])
    ranked = RankTokenizer(factors, max_tokens=max_tokens)(counts)
    for i, row in enumerate(counts.toarray()):
        expected = slow_tokens(dict(enumerate(row)), factors, max_tokens)
        assert ranked.tokens[ranked.cu_seqlens[i] : ranked.cu_seqlens[i + 1]].tolist() == expected


@settings(max_examples=40, deadline=None)
@given(counts_matrices, st.randoms(use_true_random=False))
def test_tokens_do_not_depend_on_column_order(rows, random):
    matrix = np.array(rows, dtype=np.float32)
    names = [f"g{i}" for i in range(matrix.shape[1])]
    order = list(range(len(names)))
    random.shuffle(order)
    results = []
    for columns in (range(len(names)), order):
        columns = list(columns)
        vocabulary = Vocabulary.from_names(names)
        ids = vocabulary.token_ids([names[c] for c in columns])
        counts = to_token_space(sp.csr_matrix(matrix[:, columns]), ids, vocabulary.n_tokens)
        results.append(RankTokenizer(nonzero_medians(counts))(counts))
    assert np.array_equal(results[0].tokens, results[1].tokens)
    assert np.array_equal(results[0].cu_seqlens, results[1].cu_seqlens)


def test_zeros_and_unknown_genes_are_never_tokens():
    vocabulary = Vocabulary(["a", "b", "c"])
    matrix = sp.csr_matrix(np.array([[5.0, 0.0, 9.0, 1.0]]))
    counts = to_token_space(matrix, vocabulary.token_ids(["a", "b", "not there", "c"]), vocabulary.n_tokens)
    tokens = RankTokenizer(np.array([np.nan, np.nan, 1.0, 1.0, 1.0]))(counts).tokens
    assert tokens.tolist() == [2, 4]


def test_duplicate_columns_are_summed():
    vocabulary = Vocabulary(["a", "b"])
    matrix = sp.csr_matrix(np.array([[2.0, 3.0, 2.0]]))
    counts = to_token_space(matrix, vocabulary.token_ids(["a", "b", "a"]), vocabulary.n_tokens)
    assert counts.toarray().tolist() == [[0.0, 0.0, 4.0, 3.0]]


def test_genes_without_factor_are_left_out():
    counts = sp.csr_matrix(np.array([[0.0, 0.0, 1.0, 2.0]]))
    assert RankTokenizer(np.array([np.nan, np.nan, np.nan, 1.0]))(counts).tokens.tolist() == [3]


def test_cls_comes_first_and_is_not_counted():
    counts = sp.csr_matrix(np.array([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]]))
    ranked = RankTokenizer(np.array([np.nan, np.nan, 1.0, 1.0]), max_tokens=1, cls_id=4)(counts)
    assert ranked.tokens.tolist() == [4, 3, 4]
    assert ranked.cu_seqlens.tolist() == [0, 2, 3]


def test_wrong_width_and_length_are_refused():
    tokenizer = RankTokenizer(np.ones(4))
    with pytest.raises(ValueError, match="4 columns"):
        tokenizer(sp.csr_matrix((1, 5)))
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        RankTokenizer(np.ones(4), max_tokens=0)


def test_no_cells():
    ranked = RankTokenizer(np.ones(3))(sp.csr_matrix((0, 3)))
    assert ranked.tokens.shape == (0,)
    assert ranked.cu_seqlens.tolist() == [0]
