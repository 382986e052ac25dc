"""Pairs of genes from sets and from co-expression."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import Vocabulary, pairs_of_coexpression, pairs_of_sets, tokens_of_sets


def test_pairs_of_sets_are_all_pairs_once():
    sets = [np.array([5, 3, 9]), np.array([9, 5]), np.array([7]), np.array([4, 4])]
    assert pairs_of_sets(sets).tolist() == [[3, 5], [3, 9], [5, 9]]


def test_large_sets_are_left_out():
    assert pairs_of_sets([np.arange(5), np.array([1, 9])], max_set_size=4).tolist() == [[1, 9]]
    assert pairs_of_sets([]).shape == (0, 2)


def test_coexpressed_genes_are_mutual_neighbours():
    generator = np.random.default_rng(0)
    programmes = generator.normal(size=(500, 3))
    noise = generator.normal(size=(500, 9))
    values = np.maximum(np.repeat(programmes, 3, axis=1) * 2 + noise, 0)
    values = np.hstack([values, np.ones((500, 1))])
    tokens = np.array([20, 3, 7, 9, 11, 12, 15, 14, 13, 30])
    pairs = pairs_of_coexpression(sp.csr_matrix(values), tokens, n_neighbours=2)
    expected = [sorted((tokens[i], tokens[j])) for s in (0, 3, 6) for i, j in ((s, s + 1), (s, s + 2), (s + 1, s + 2))]
    assert pairs.tolist() == sorted(expected)
    assert pairs_of_coexpression(sp.csr_matrix(values[:, :1]), tokens[:1]).shape == (0, 2)


def test_sets_are_matched_by_name_as_data_are():
    vocabulary = Vocabulary(["CD3E", "MS4A1", "NKG7"])
    found = tokens_of_sets({"lymphoid": ["CD3E", "MS4A1", "nothing"], "small": ["NKG7"]}, vocabulary)
    assert list(found) == ["lymphoid"]
    assert [vocabulary.genes[token - Vocabulary.FIRST_GENE] for token in found["lymphoid"]] == ["CD3E", "MS4A1"]
    with pytest.raises(ValueError, match="species"):
        tokens_of_sets({"other": ["FBgn0000008", "FBgn0000014"]}, vocabulary)
    with pytest.raises(ValueError, match="None of the 0"):
        tokens_of_sets({}, vocabulary)
