"""What a model makes of genes, as cells of their own: states of genes in groups of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scgenemamba.tl._cells import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel


def gene_embeddings(
    model: GeneMambaModel,
    adata: AnnData | None = None,
    *,
    groupby: str | None = None,
    indices: Sequence[int] | None = None,
    min_cells: int = 10,
    contextual: bool = True,
    batch_size: int | None = None,
) -> AnnData:
    """Embed genes, as an AnnData whose observations are genes.

    scanpy reads it as it reads cells: ``sc.pp.neighbors(genes, use_rep="X", metric="cosine")`` makes a graph of genes,
    ``sc.tl.leiden(genes)`` modules of them.

    Parameters
    ----------
    model
        Model, trained or pretrained.
    adata
        Cells, ``None`` for those of the training; not changed, but for what scvi-tools registers.
    groupby
        Column of ``adata.obs``: genes are embedded once for each of its values. Cells without a value are left out.
    indices
        Cells to read, ``None`` for all.
    min_cells
        Genes that fewer cells of a group show are left out of it.
    contextual
        Mean of the last hidden states over the cells that show the gene, instead of the static embedding, which is the same in all
        cells.
    batch_size
        Cells at a time; does not change the result.

    Returns
    -------
    AnnData with ``X`` float32 ``(n, d_model)`` and, for contextual embeddings, ``obs["n_cells"]``, the number of cells that show the
    gene; with ``groupby``, ``obs["gene"]`` and ``obs[groupby]`` as well, and observations named ``gene|group``.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If no gene is shown by so many cells; if cells, groups or ``min_cells`` are given for static embeddings.
    """
    import anndata as ad

    if not contextual:
        if adata is not None or groupby is not None or indices is not None:
            msg = "Static embeddings are the same in all cells: leave out `adata`, `groupby` and `indices`."
            raise ValueError(msg)
        table = model.get_gene_embeddings()
        return ad.AnnData(table.to_numpy(np.float32), obs=pd.DataFrame(index=table.index.astype(str)))
    if min_cells < 1:
        msg = f"`min_cells` must be at least 1, got {min_cells}."
        raise ValueError(msg)
    cells = model.adata if adata is None else adata
    parts = []
    for group, rows in _groups(cells, groupby, indices):
        states, n_cells = model.get_contextual_gene_embeddings(adata, indices=rows, batch_size=batch_size)
        shown = (n_cells >= min_cells).to_numpy()
        genes = states.index[shown].astype(str)
        obs = pd.DataFrame({"n_cells": n_cells.to_numpy()[shown]}, index=genes)
        if groupby is not None:
            obs = obs.assign(gene=genes, **{groupby: group}).set_index(genes + f"|{group}")
        parts.append((states.to_numpy()[shown], obs))
    obs = pd.concat([part for _, part in parts])
    if obs.empty:
        msg = f"No gene is shown by {min_cells} of the cells{'' if groupby is None else ' of any group'}: lower `min_cells`."
        raise ValueError(msg)
    if groupby is not None:
        obs[groupby] = pd.Categorical(obs[groupby])
    obs.index.name = None
    return ad.AnnData(np.concatenate([states for states, _ in parts]), obs=obs)


def _groups(
    adata: AnnData | None, groupby: str | None, indices: Sequence[int] | None
) -> Iterator[tuple[str | None, Any]]:
    if groupby is None:
        yield None, indices
        return
    if adata is None or groupby not in adata.obs:
        has = [] if adata is None else [*adata.obs.columns]
        msg = f"`groupby`: adata.obs has no column {groupby!r}; it has {has}."
        raise KeyError(msg)
    rows = rows_of(indices, adata.n_obs)
    values = adata.obs[groupby].iloc[rows].astype("category").cat.remove_unused_categories()
    if not len(values.cat.categories):
        msg = f"`groupby`: no cell has a value in {groupby!r}."
        raise ValueError(msg)
    for code, group in enumerate(values.cat.categories):
        yield str(group), rows[values.cat.codes == code]
