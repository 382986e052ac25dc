"""The compiled tokenizer equals the loop over cells, whatever the data look like."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import RankTokenizer, to_token_space, values_of

from .oracle import ranked_by_loop


def assert_equal(counts, factors, **options):
    ranked, expected = RankTokenizer(factors, **options)(counts), ranked_by_loop(counts, factors, **options)
    assert ranked.tokens.dtype == np.int32 and ranked.cu_seqlens.dtype == np.int64
    np.testing.assert_array_equal(ranked.cu_seqlens, expected.cu_seqlens)
    np.testing.assert_array_equal(ranked.tokens, expected.tokens)


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return sp.csr_matrix(rng.poisson(rng.gamma(0.3, 2.0, size=900), size=(70, 900)).astype(np.float64))


@pytest.fixture
def factors():
    """Few distinct values, so that ties abound, and some that cannot be used."""
    values = np.random.default_rng(1).choice([0.5, 1.0, 1.5, 3.0, 7.0], size=900)
    values[:6] = [np.nan, np.inf, 0.0, -1.0, -np.inf, np.nan]
    return values


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("cls_id", [None, 900])
@pytest.mark.parametrize("max_tokens", [None, 1, 40, 5_000])
def test_equals_the_loop(counts, factors, dtype, cls_id, max_tokens):
    assert_equal(counts.astype(dtype), factors, max_tokens=max_tokens, cls_id=cls_id)


def test_continuous_scores_equal_the_loop():
    rng = np.random.default_rng(2)
    counts = sp.csr_matrix(rng.lognormal(0, 4, size=(30, 3_000)))
    assert_equal(counts, rng.lognormal(0, 2, size=3_000))


@pytest.mark.parametrize("exponent", [-52, -40, -30, -20, -10])
def test_scores_that_hardly_differ_are_in_order(exponent):
    rng = np.random.default_rng(3)
    values = 1 + rng.integers(0, 50, size=(20, 300)) * 2.0**exponent
    values[:10, 0] = 1e300  # so that the leading bits tell none of the others apart
    values[:5, 1] = 5e-324
    assert_equal(sp.csr_matrix(values), np.ones(300))


def test_extreme_values_equal_the_loop():
    values = np.array([[np.inf, 1e308, 5e-324, 0.0, -0.0, -1.0, np.nan, 1.0, np.inf]])
    counts = sp.csr_matrix((values.ravel(), np.arange(9), [0, 9]), shape=(1, 9))
    with np.errstate(over="ignore", under="ignore"):
        assert_equal(counts, np.array([1.0, 1e-300, 1e300, 1, 1, 1, 1, 2.0, 0.5]))


def test_stored_zeros_and_empty_cells(counts, factors):
    counts.data[::3] = 0
    counts[5:9] *= 0
    assert_equal(counts, factors)
    assert_equal(sp.csr_matrix((4, 900)), factors, cls_id=900)


def test_order_of_columns_and_repeats_equal_the_loop(counts, factors):
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 900, size=counts.nnz).astype(np.int32)
    untidy = sp.csr_matrix((counts.data, ids, counts.indptr), shape=counts.shape)
    before = untidy.indices.copy()
    assert_equal(untidy, factors)
    np.testing.assert_array_equal(untidy.indices, before)


@pytest.mark.parametrize("container", [sp.csr_array, sp.csr_matrix])
def test_wide_indices(counts, factors, container):
    counts = container(counts)
    wide = container((counts.data, counts.indices, counts.indptr), shape=counts.shape)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    assert_equal(wide, factors)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
def test_threads_do_not_change_the_result(n_threads):
    rng = np.random.default_rng(5)
    counts = sp.csr_matrix(rng.poisson(0.5, size=(2_000, 60)).astype(np.float32))
    factors = rng.lognormal(0, 1, size=60)
    ranked, expected = RankTokenizer(factors, n_threads=n_threads)(counts), ranked_by_loop(counts, factors)
    np.testing.assert_array_equal(ranked.tokens, expected.tokens)
    np.testing.assert_array_equal(ranked.cu_seqlens, expected.cu_seqlens)


def test_works_where_nothing_can_be_written(monkeypatch):
    """numba refuses to compile with ``cache=True`` if it finds no place for the result."""
    from numba.core import caching

    from scgenemamba.tokens import _kernels

    # its name was private once
    implementation = getattr(caching, "CacheImpl", None) or caching._CacheImpl
    monkeypatch.setattr(implementation, "_locator_classes", [])
    lengths = np.empty(2, dtype=np.int64)
    count = _kernels.compiled(_kernels.count_tokens.py_func)
    count(np.array([0, 2, 2]), np.zeros(2, np.int32), np.ones(2), np.ones(1), lengths)
    assert lengths.tolist() == [2, 0]


def test_token_space_is_sorted_summed_and_leaves_its_input_alone(counts):
    rng = np.random.default_rng(6)
    token_ids = rng.integers(-1, 500, size=900).astype(np.int32)
    before = counts.copy()
    moved = to_token_space(counts, token_ids, 500)
    onto = sp.csr_matrix((np.ones(900), (np.arange(900), np.maximum(token_ids, 0))), shape=(900, 500))
    expected = sp.diags(np.ones(70)) @ counts @ sp.diags((token_ids >= 0).astype(float)) @ onto
    np.testing.assert_array_equal(moved.toarray(), expected.toarray())
    assert moved.dtype == np.float64
    assert moved.has_canonical_format
    assert (moved.data > 0).all()
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(counts, part), getattr(before, part))
        assert not np.shares_memory(getattr(moved, part), getattr(counts, part))


def test_values_of_some_tokens(counts):
    tokens = np.random.default_rng(7).permutation(900)[:50].astype(np.int32)
    values = values_of(counts, tokens)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, counts[:, tokens].toarray())
