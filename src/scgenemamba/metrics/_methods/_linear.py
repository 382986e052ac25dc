"""Embeddings without a neural network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._base import Method, Output

if TYPE_CHECKING:
    from anndata import AnnData

    from ._base import Task

_COMPONENTS = 50


def _variable(task: Task) -> AnnData:
    """Log-normalised variable genes of all cells."""
    return task.cells.log_normalised(genes=task.cells.variable_genes(task.settings.n_top_genes))


def _components(adata: AnnData) -> np.ndarray:
    import scanpy as sc

    sc.pp.pca(adata, n_comps=min(_COMPONENTS, adata.n_obs - 1, adata.n_vars - 1), random_state=0)
    return np.asarray(adata.obsm["X_pca"], dtype=np.float32)


class Pca(Method):
    """Principal components of log-normalised variable genes: no integration."""

    name = "PCA"
    label_free = deterministic = True

    def run(self, task: Task) -> Output:
        """50 components."""
        return Output(_components(_variable(task)))


class VariableGenes(Method):
    """The log-normalised variable genes themselves."""

    name = "HVG"
    label_free = deterministic = True
    # of scoring: distances between as many genes
    seconds_per_1000_cells = 35.0

    def run(self, task: Task) -> Output:
        """All variable genes."""
        return Output(_variable(task).X.toarray().astype(np.float32))


class Harmony(Method):
    """Harmony on the principal components."""

    name = "Harmony"
    label_free = True
    packages = {"harmonypy": "pip install 'scgenemamba[metrics]'"}
    seconds_per_1000_cells = 2.0

    def run(self, task: Task) -> Output:
        """Harmonypy with its defaults."""
        import harmonypy

        components = _components(_variable(task))
        obs = task.cells.counts().obs
        corrected = np.asarray(
            harmonypy.run_harmony(components, obs, "batch", random_state=task.seed, verbose=False).Z_corr
        )
        # before 2.0 it gave components x cells
        return Output((corrected if corrected.shape == components.shape else corrected.T).astype(np.float32))


class ComBat(Method):
    """ComBat on variable genes, then principal components."""

    name = "ComBat"
    label_free = deterministic = True
    seconds_per_1000_cells = 2.0

    def run(self, task: Task) -> Output:
        """Scanpy's ComBat."""
        import scanpy as sc

        adata = _variable(task)
        adata.X = adata.X.toarray()
        # genes that do not vary within a batch have no scale there
        adata.X = np.nan_to_num(sc.pp.combat(adata, key="batch", inplace=False))
        return Output(_components(adata))
