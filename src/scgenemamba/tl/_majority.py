"""Clusters vote for a common label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

# Cells up to which a resolution is taken: CellTypist's, for clusters smaller than any type
_RESOLUTIONS = {5_000: 5, 20_000: 10, 40_000: 15, 100_000: 20, 200_000: 25}
_LARGEST_RESOLUTION = 30
_N_NEIGHBORS = 10


def majority_vote(labels: pd.Categorical, clusters: pd.Categorical, min_share: float) -> pd.Categorical:
    """Commonest label of each cell's cluster.

    Parameters
    ----------
    labels
        Label of each cell, ``(n_cells,)``.
    clusters
        Cluster of each cell, ``(n_cells,)``; cells without one keep their label.
    min_share
        Share of a cluster's cells that must have the commonest label; elsewhere cells keep their own.

    Returns
    -------
    Labels, ``(n_cells,)``. Of labels that are equally common the first category is taken.
    """
    codes = labels.codes.astype(np.int64)
    inside = np.flatnonzero(clusters.codes >= 0)
    cluster = clusters.codes[inside]
    votes = np.zeros((len(clusters.categories), len(labels.categories)), dtype=np.int64)
    np.add.at(votes, (cluster, codes[inside]), 1)
    agreed = votes.max(1) >= min_share * votes.sum(1)
    codes[inside] = np.where(agreed[cluster], votes.argmax(1)[cluster], codes[inside])
    return pd.Categorical.from_codes(codes, categories=labels.categories).remove_unused_categories()


def over_cluster(latent: npt.NDArray[np.float32]) -> pd.Categorical:
    """Many small Leiden clusters.

    Parameters
    ----------
    latent
        Representation of the cells, ``(n_cells, d)``.

    Returns
    -------
    Cluster of each cell, ``(n_cells,)``; the same for the same representation.
    """
    import scanpy as sc
    from anndata import AnnData

    n_cells = len(latent)
    if n_cells <= 2:
        return pd.Categorical(np.full(n_cells, "0", dtype=object))
    resolution = next((r for most, r in _RESOLUTIONS.items() if n_cells < most), _LARGEST_RESOLUTION)
    cells = AnnData(obsm={"latent": latent})
    sc.pp.neighbors(cells, n_neighbors=min(_N_NEIGHBORS, n_cells - 1), use_rep="latent")
    sc.tl.leiden(cells, resolution=resolution, flavor="igraph", n_iterations=2, directed=False)
    return pd.Categorical(cells.obs["leiden"])
