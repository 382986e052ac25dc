"""Which genes a model places close to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
from tqdm.auto import tqdm

from ._table import directions, genes_of_group, rows_by_group, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData

_BLOCK = 1024
# a square of 400 MB
_MOST_GENES = 10_000


def gene_similarity(
    genes: AnnData, names: Sequence[str] | None = None, *, group: str | None = None, center: bool = True
) -> pd.DataFrame:
    """Cosine similarity of genes with each other.

    Parameters
    ----------
    genes
        Genes with embeddings in ``X``, as :func:`gene_embeddings` makes them.
    names
        Genes to compare, in this order, ``None`` for all.
    group
        Group of cells, where genes were embedded in several.
    center
        Take off the mean embedding of all genes of the group first: what all genes have in common tells none of them apart, and makes all
        similarities high.

    Returns
    -------
    Square table, float32, as :func:`scgenemamba.metrics.score_gene_pairs` takes it.

    Raises
    ------
    KeyError
        If there is no such gene or group.
    ValueError
        If a group has to be chosen, or more than 10,000 genes are asked for.
    """
    place = genes_of_group(genes, group)
    chosen = place.to_numpy() if names is None else rows_of(genes, names, group)
    if len(chosen) > _MOST_GENES:
        msg = f"A table of {len(chosen):,} genes would be too large: name at most {_MOST_GENES:,}, or use `tl.gene_neighbors`."
        raise ValueError(msg)
    unit = directions(genes, place.to_numpy(), center)[pd.Index(place).get_indexer(chosen)]
    index = pd.Index(place.index if names is None else [*names], name="gene")
    return pd.DataFrame(unit @ unit.T, index=index, columns=index)


def gene_neighbors(
    genes: AnnData, *, n_neighbors: int = 15, center: bool = True, key_added: str = "gene_neighbors"
) -> None:
    """Graph of each gene's nearest genes, exact, by cosine similarity of their embeddings.

    scanpy reads it: ``sc.tl.leiden(genes, neighbors_key="gene_neighbors", flavor="igraph")`` finds modules of genes. Genes that were embedded in
    groups of cells are compared within their group only.

    Parameters
    ----------
    genes
        Genes with embeddings in ``X``, as :func:`gene_embeddings` makes them.
    n_neighbors
        Nearest genes of each gene, itself not counted; all others in a group that has fewer.
    center
        Take off the mean embedding of all genes of the group first, see :func:`gene_similarity`.
    key_added
        Name of what is added.

    Returns
    -------
    Nothing. Adds ``obsp[key_added + "_distances"]``, float32 CSR with one minus the similarity for the nearest genes of each row,
    ``obsp[key_added + "_connectivities"]``, float32 CSR with the similarity itself, symmetric: two genes are joined if either is among the
    other's nearest and they are not dissimilar; and ``uns[key_added]`` with the parameters.

    Raises
    ------
    ValueError
        If ``n_neighbors`` is not positive, or an embedding is not finite.
    """
    if n_neighbors < 1:
        msg = f"`n_neighbors` must be at least 1, got {n_neighbors}."
        raise ValueError(msg)
    parts = []
    with tqdm(total=genes.n_obs, desc="Nearest genes", unit=" genes", leave=False, delay=5) as bar:
        for rows in rows_by_group(genes).values():
            parts += [_nearest(directions(genes, rows, center), rows, n_neighbors, bar)]
    row, column, similarity = (np.concatenate([part[i] for part in parts]) for i in range(3))
    shape = (genes.n_obs, genes.n_obs)
    distances = sp.csr_matrix((np.maximum(1 - similarity, 0), (row, column)), shape=shape)
    alike = similarity > 0
    directed = sp.csr_matrix((similarity[alike], (row[alike], column[alike])), shape=shape)
    genes.obsp[f"{key_added}_distances"] = distances
    genes.obsp[f"{key_added}_connectivities"] = directed.maximum(directed.T).tocsr()
    genes.uns[key_added] = {
        "connectivities_key": f"{key_added}_connectivities",
        "distances_key": f"{key_added}_distances",
        "params": {
            "n_neighbors": n_neighbors,
            "method": "cosine similarity",
            "metric": "cosine",
            "use_rep": "X",
            "center": center,
        },
    }


def _nearest(
    unit: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], n_neighbors: int, bar: tqdm
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows, columns and similarities of the nearest genes of one group, ``(len(rows) * n_neighbors,)`` each."""
    n_nearest = min(n_neighbors, len(rows) - 1)
    nearest = np.empty((len(rows), n_nearest), dtype=np.int64)
    similarity = np.empty((len(rows), n_nearest), dtype=np.float32)
    # blocks, so that the square of all genes is never in memory
    for start in range(0, len(rows), _BLOCK):
        block = unit[start : start + _BLOCK] @ unit.T
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        if n_nearest:
            found = np.argpartition(block, -n_nearest, axis=1)[:, -n_nearest:]
            nearest[start + own] = found
            similarity[start + own] = np.take_along_axis(block, found, axis=1)
        bar.update(len(block))
    return np.repeat(rows, n_nearest), rows[nearest.ravel()], similarity.ravel()
