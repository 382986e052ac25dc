"""Medians over chunks against exact ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scgenemamba.tokens import MedianSketch, nonzero_medians

pytest.importorskip("boost_histogram")


@pytest.fixture
def counts():
    generator = np.random.default_rng(0)
    rates = generator.lognormal(-1, 1.5, size=40)
    depth = generator.lognormal(0, 0.5, size=(2000, 1))
    dense = generator.poisson(rates * depth)
    dense[:, 7] = 0
    return sp.csr_matrix(dense.astype(np.float64))


def sketched(*chunks):
    sketch = MedianSketch(40)
    for chunk in chunks:
        sketch.update(chunk)
    return sketch


def test_medians_are_close_to_the_exact_ones(counts):
    found, exact = sketched(counts).medians(), nonzero_medians(counts)
    assert np.isnan(found[7])
    assert np.isnan(exact[7])
    np.testing.assert_allclose(np.delete(found, 7), np.delete(exact, 7), rtol=0.024)
    assert np.nanmedian(np.abs(found / exact - 1)) < 0.01


def test_chunks_and_their_order_do_not_matter(counts):
    whole = sketched(counts).medians()
    parts = sketched(counts[1500:], counts[:0], counts[:700], counts[700:1500])
    np.testing.assert_array_equal(parts.medians(), whole)
    assert parts.n_cells == 2000


def test_genes_of_one_cell_and_cells_of_one_gene():
    # the one cell expresses a single gene, which is all of its 10,000
    found = sketched(sp.csr_matrix(([5.0], ([0], [3])), shape=(1, 40))).medians()
    assert found[3] == pytest.approx(1e4, rel=0.024)
    assert np.isnan(np.delete(found, 3)).all()


def test_values_below_the_first_bin_count():
    cells = sp.csr_matrix(np.array([[1e7, 1.0]]).repeat(3, axis=0))
    cells.resize(3, 40)
    assert sketched(cells).medians()[1] == pytest.approx(1e-2)
