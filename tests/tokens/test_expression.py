"""Scale of values, and the way back from logarithms to counts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import Scale, check_values, counts_from, infer_scale


@pytest.fixture
def counts():
    return sp.csr_matrix(np.random.default_rng(0).negative_binomial(0.5, 0.2, size=(60, 80)).astype(np.float64))


def normalised(counts: sp.csr_matrix, target: float = 1e4) -> sp.csr_matrix:
    return sp.csr_matrix(counts.multiply(target / counts.sum(axis=1)))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_integers_are_counts(counts, dtype):
    assert infer_scale(counts.astype(dtype)) == Scale("counts")


@pytest.mark.parametrize("base", [np.e, 2.0, 10.0])
@pytest.mark.parametrize("decimals", [None, 3])
def test_logarithms_are_recognised_and_undone_exactly(counts, base, decimals):
    logs = normalised(counts)
    logs.data = (np.log1p(logs.data) / np.log(base)).astype(np.float32)
    if decimals is not None:
        logs.data = np.round(logs.data, decimals)
    scale = infer_scale(logs)
    assert (scale.kind, scale.base) == ("log", base)
    restored, expected = counts_from(logs, scale).toarray(), counts.toarray()
    # up to a factor of the cell, which ranks do not see
    factor = restored.sum(1) / expected.sum(1)
    np.testing.assert_array_equal(restored, expected * np.round(factor, 6)[:, None])


def test_an_unusual_recorded_base_is_honoured(counts):
    logs = normalised(counts)
    logs.data = np.log1p(logs.data) / np.log(3.0)
    assert infer_scale(logs, log_base=3.0).base == 3.0


def test_normalised_but_not_logarithmic(counts):
    scale = infer_scale(normalised(counts))
    assert scale.kind == "linear"
    ratio = counts_from(normalised(counts), scale).toarray().sum(1) / counts.toarray().sum(1)
    np.testing.assert_allclose(ratio, np.round(ratio), atol=1e-9)


def test_fractional_counts_are_linear_and_kept(counts):
    rng = np.random.default_rng(1)
    corrected = counts.copy()
    corrected.data = corrected.data * rng.uniform(0.5, 9, size=corrected.data.shape)
    scale = infer_scale(corrected)
    assert scale.kind == "linear"
    np.testing.assert_array_equal(counts_from(corrected, scale).toarray(), corrected.toarray())


def test_unknown_transformations_are_not_guessed():
    values = sp.csr_matrix(np.random.default_rng(0).random((50, 30)) * 5)
    assert infer_scale(values) is None
    assert infer_scale(values, log_base=np.e).kind == "log"


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_bad_values_are_located(counts, value):
    assert check_values(counts) is None
    dense = counts.toarray()
    dense[7, 5] = value
    row, column, found = check_values(sp.csr_matrix(dense))
    assert (row, column) == (7, 5)
    assert found == value or np.isnan(value)
