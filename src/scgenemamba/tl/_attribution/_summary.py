"""Attributions of cells, summed up by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scgenemamba.tl._cells import group_column

if TYPE_CHECKING:
    from anndata import AnnData


def attributed_genes(
    attributions: AnnData,
    groupby: str = "attribution_target",
    *,
    n_genes: int | None = None,
    min_share: float = 0.0,
) -> pd.DataFrame:
    """Mean attribution of each gene in groups of cells, as a table like that of :func:`scanpy.get.rank_genes_groups_df`.

    Parameters
    ----------
    attributions
        Result of :func:`attribute`.
    groupby
        Column of its ``obs``; cells without a value are left out.
    n_genes
        Genes of each group, the highest attributions first; ``None`` for all that its cells show.
    min_share
        Leave out genes that a smaller share of the group's cells shows.

    Returns
    -------
    Table with a row for each group and gene, in order of ``attribution`` within each group:

    - ``group``, ``gene``,
    - ``rank``, from 1,
    - ``attribution``, ``std``: mean and standard deviation over all cells of the group, where cells that do not show the gene count zero,
    - ``n_cells``, ``share``: how many cells of the group show the gene, and which part of them.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If no cell has a group, no gene is left, or an argument is out of range.
    """
    if n_genes is not None and n_genes < 1:
        msg = f"`n_genes` must be at least 1, got {n_genes}."
        raise ValueError(msg)
    if not 0 <= min_share <= 1:
        msg = f"`min_share` must be from 0 to 1, got {min_share}."
        raise ValueError(msg)
    column = group_column(attributions, groupby)
    matrix = sp.csr_matrix(attributions.X)
    genes = attributions.var_names.to_numpy()
    parts = [
        _of_group(matrix[np.flatnonzero(column == group)], genes, min_share)
        .head(n_genes or len(genes))
        .assign(group=group)
        for group in column.cat.remove_unused_categories().cat.categories
    ]
    if not parts:
        msg = f"`groupby`: no cell has a value in {groupby!r}."
        raise ValueError(msg)
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        msg = f"No gene is shown by {min_share:.0%} of the cells of any group of {groupby!r}: lower `min_share`."
        raise ValueError(msg)
    table["group"] = pd.Categorical(table["group"], categories=column.cat.remove_unused_categories().cat.categories)
    return table[["group", "gene", "rank", "attribution", "std", "n_cells", "share"]]


def _of_group(matrix: sp.csr_matrix, genes: np.ndarray, min_share: float) -> pd.DataFrame:
    n_cells = matrix.shape[0]
    shown = matrix.getnnz(axis=0)
    wide = matrix.astype(np.float64)
    mean = np.asarray(wide.mean(axis=0)).ravel()
    square = np.asarray(wide.multiply(wide).mean(axis=0)).ravel()
    table = pd.DataFrame(
        {
            "gene": genes,
            "attribution": mean,
            "std": np.sqrt(np.clip(square - mean**2, 0, None)),
            "n_cells": shown,
            "share": shown / n_cells,
        }
    )
    table = table[(shown > 0) & (table["share"] >= min_share)]
    # genes with the same attribution keep the order of the vocabulary
    table = table.sort_values("attribution", ascending=False, kind="stable", ignore_index=True)
    return table.assign(rank=np.arange(1, len(table) + 1))
