"""Choice of the genes that the count decoder models."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from scgenemamba.tokens import Vocabulary

from ._constants import MAX_VARIABLE_GENES

_MIN_CELLS_PER_BATCH = 20


def rank_variable_genes(counts: sp.csr_matrix, batches: npt.NDArray[np.generic] | None) -> npt.NDArray[np.int32]:
    """Token ids of the most variable genes, most variable first.

    Variability is scanpy's variance of Pearson residuals, which needs no normalisation; with batches, genes
    that vary within most of them come first.

    Parameters
    ----------
    counts
        Cells by genes of the vocabulary, in its order, shape ``(n_cells, n_genes)``.
    batches
        Batch of each cell; batches too small to estimate a variance are left out.

    Returns
    -------
    int32, at most 4,000 token ids.
    """
    import scanpy as sc
    from anndata import AnnData

    n_genes = counts.shape[1]
    keep = np.ones(counts.shape[0], dtype=bool)
    obs = None
    if batches is not None:
        labels = batches.astype(str)
        names, sizes = np.unique(labels, return_counts=True)
        keep = np.isin(labels, names[sizes >= _MIN_CELLS_PER_BATCH])
        obs = {"batch": labels[keep]}
    expressed = np.asarray((counts[keep] > 0).sum(axis=0)).ravel() >= 2
    if expressed.sum() <= 1 or keep.sum() < _MIN_CELLS_PER_BATCH:
        return np.arange(min(n_genes, MAX_VARIABLE_GENES), dtype=np.int32) + Vocabulary.FIRST_GENE
    candidates = np.flatnonzero(expressed)
    adata = AnnData(counts[keep][:, candidates].astype(np.float32), obs=obs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = sc.experimental.pp.highly_variable_genes(
            adata,
            n_top_genes=min(len(candidates), MAX_VARIABLE_GENES),
            batch_key="batch" if obs and len(np.unique(obs["batch"])) > 1 else None,
            check_values=False,
            inplace=False,
        )
    table = table.reset_index(drop=True)
    order = table.sort_values("highly_variable_rank", kind="stable", na_position="last").index.to_numpy()
    chosen = order[: int(table["highly_variable"].sum())]
    return (candidates[chosen] + Vocabulary.FIRST_GENE).astype(np.int32)
