"""The cells of a benchmark: the same for all methods, and without the labels."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import scipy.sparse as sp
    from anndata import AnnData


class Cells:
    """Counts and batches of the cells that every method gets.

    Parameters
    ----------
    counts
        Integer counts, CSR, shape ``(n_cells, n_genes)``.
    genes
        Names of the genes, shape ``(n_genes,)``; they need not be unique.
    batch
        Batch of each cell, shape ``(n_cells,)``.
    rows
        Position of each cell in the user's AnnData, which is its name here; ``None`` counts up.
    """

    def __init__(
        self, counts: sp.csr_matrix, genes: np.ndarray, batch: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        self.values = counts.astype(np.float32)
        self.genes = np.asarray(genes).astype(str)
        self.batch = np.asarray(batch).astype(str)
        self.names = pd.Index((np.arange(self.n_obs) if rows is None else rows).astype(str))
        self._log_normalised: sp.csr_matrix | None = None
        self._variable: dict[Any, np.ndarray] = {}
        #: What a method leaves for another one of the same seed, such as a trained scVI model.
        self.kept: dict[Any, Any] = {}

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.values.shape[0]

    def counts(self, which: np.ndarray | None = None, genes: np.ndarray | None = None) -> AnnData:
        """New AnnData of counts, with ``obs.batch`` and ``var.gene``.

        Parameters
        ----------
        which, genes
            Boolean masks of cells and genes, ``None`` for all.
        """
        return self._adata(self.values, which, genes)

    def log_normalised(self, which: np.ndarray | None = None, genes: np.ndarray | None = None) -> AnnData:
        """New AnnData of log1p of counts per 10,000 of all genes, masked as in :meth:`counts`."""
        import scanpy as sc

        if self._log_normalised is None:
            adata = self.counts()
            sc.pp.normalize_total(adata, target_sum=1e4)
            sc.pp.log1p(adata)
            self._log_normalised = adata.X
        return self._adata(self._log_normalised, which, genes)

    def variable_genes(self, n_top: int, which: np.ndarray | None = None) -> np.ndarray:
        """Genes whose Pearson residuals vary most within the batches of some cells, bool ``(n_genes,)``.

        Parameters
        ----------
        n_top
            How many genes; all that are expressed, if there are fewer.
        which
            Cells that may be looked at, ``None`` for all.
        """
        import scanpy as sc

        key = (n_top, None if which is None else which.tobytes())
        if key not in self._variable:
            adata = self.counts(which)
            expressed = np.asarray((adata.X > 0).sum(0)).ravel() > 0
            if expressed.sum() <= n_top:
                self._variable[key] = expressed
            else:
                batch = "batch" if adata.obs["batch"].nunique() > 1 else None
                sc.experimental.pp.highly_variable_genes(adata, n_top_genes=n_top, batch_key=batch)
                self._variable[key] = adata.var["highly_variable"].to_numpy(dtype=bool)
        return self._variable[key]

    def fingerprint(self) -> str:
        """Hash of sizes, sums, gene names and batches."""
        digest = hashlib.sha256(repr(self.values.shape).encode())
        for axis in (0, 1):
            digest.update(np.asarray(self.values.sum(axis), dtype=np.float64).round(3).tobytes())
        for names in (self.genes, self.batch):
            digest.update("\0".join(names).encode())
        return digest.hexdigest()

    def _adata(self, values: sp.csr_matrix, which: np.ndarray | None, genes: np.ndarray | None) -> AnnData:
        from anndata import AnnData

        rows = slice(None) if which is None else np.flatnonzero(which)
        columns = np.arange(len(self.genes)) if genes is None else np.flatnonzero(genes)
        taken = values[rows]
        taken = taken.copy() if genes is None else taken[:, columns]
        obs = pd.DataFrame({"batch": pd.Categorical(self.batch[rows])}, index=self.names[rows])
        # names may repeat, and the methods want unique ones
        var = pd.DataFrame({"gene": self.genes[columns]}, index=pd.Index(columns.astype(str)))
        return AnnData(taken, obs=obs, var=var)
