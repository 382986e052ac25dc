"""Vocabulary, identifiers and medians."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import Vocabulary, canonical_identifiers, nonzero_medians


def test_ids_start_after_the_specials_and_ignore_input_order():
    vocabulary = Vocabulary.from_names(["b", "c", "a", "b"])
    assert vocabulary.genes.tolist() == ["a", "b", "c"]
    assert vocabulary.token_ids(["a", "c", "d"]).tolist() == [2, 4, -1]
    assert vocabulary.n_tokens == 5
    assert vocabulary.cls_id == 5


def test_ensembl_versions_are_dropped_and_symbols_kept():
    names = ["ENSG00000000003.15", "ENSMUSG00000000001.4", "RP11-34P13.7", "AC000.1", None, float("nan"), " CD3E "]
    expected = ["ENSG00000000003", "ENSMUSG00000000001", "RP11-34P13.7", "AC000.1", "", "", "CD3E"]
    assert canonical_identifiers(names).tolist() == expected


@pytest.mark.parametrize("genes", [["a", "a"], ["a", ""]])
def test_repeated_or_empty_genes_are_refused(genes):
    with pytest.raises(ValueError, match="unique and not empty"):
        Vocabulary(genes)


def test_medians_are_over_expressing_cells_of_scaled_counts():
    rng = np.random.default_rng(0)
    dense = rng.poisson(0.7, size=(50, 8)).astype(float)
    dense[:, 3] = 0
    scaled = dense / dense.sum(1, keepdims=True) * 1e4
    expected = [np.median(scaled[dense[:, g] > 0, g]) if dense[:, g].any() else np.nan for g in range(8)]
    np.testing.assert_allclose(nonzero_medians(sp.csr_matrix(dense)), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_medians_do_not_depend_on_dtype(dtype):
    dense = np.random.default_rng(1).poisson(0.7, size=(40, 9))
    reference = nonzero_medians(sp.csr_matrix(dense.astype(np.float64)))
    assert np.array_equal(nonzero_medians(sp.csr_matrix(dense.astype(dtype))), reference, equal_nan=True)
