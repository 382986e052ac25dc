"""Rank normalisation factors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

TARGET_SUM = 1e4


def nonzero_medians(counts: sp.csr_matrix) -> npt.NDArray[np.float64]:
    """Median of each gene's nonzero, library-size scaled expression (paper, Eq. 1).

    The factors are those of Geneformer and GeneMamba: counts are scaled to 10,000 per cell, and the
    median of a gene is taken over the cells that express it. Here it is exact, one sparse pass.

    Parameters
    ----------
    counts
        Linear values, CSR, shape ``(n_cells, n_genes)``, without stored zeros.

    Returns
    -------
    float64, shape ``(n_genes,)``; NaN for genes that no cell expresses.
    """
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(TARGET_SUM, totals, out=np.zeros_like(totals), where=totals > 0)
    scaled = sp.csr_matrix(
        (counts.data * np.repeat(scale, np.diff(counts.indptr)), counts.indices, counts.indptr), shape=counts.shape
    ).tocsc()
    medians = np.full(counts.shape[1], np.nan)
    for gene in np.flatnonzero(np.diff(scaled.indptr)):
        medians[gene] = np.median(scaled.data[scaled.indptr[gene] : scaled.indptr[gene + 1]])
    return medians
