"""Reading a table of genes that :func:`gene_embeddings` made: its groups, genes by name, directions of embeddings."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData


def group_column(genes: AnnData) -> str | None:
    """Column of ``genes.obs`` that tells groups of cells apart: observations are named ``gene|group``."""
    if "gene" not in genes.obs:
        return None
    gene = genes.obs["gene"].astype(str)
    for column in genes.obs.columns.drop("gene"):
        if (gene + "|" + genes.obs[column].astype(str) == genes.obs_names).all():
            return str(column)
    return None


def rows_by_group(genes: AnnData) -> dict[str | None, npt.NDArray[np.int64]]:
    """Rows of each group, all of them under ``None`` where there are no groups."""
    column = group_column(genes)
    if column is None:
        return {None: np.arange(genes.n_obs)}
    return {str(group): np.asarray(rows) for group, rows in genes.obs.groupby(column, observed=True).indices.items()}


def genes_of_group(genes: AnnData, group: str | None) -> pd.Series:
    """Rows by gene name, of the group, or of all where there are no groups.

    Raises
    ------
    KeyError
        If there is no such group.
    ValueError
        If there are several groups and none is chosen, or a gene is there twice.
    """
    groups = rows_by_group(genes)
    if group is None and len(groups) == 1:
        (group,) = groups
    if group not in groups:
        if group is None:
            msg = f"Genes were embedded in {len(groups)} groups: choose one of {[*groups]}, `group=`."
            raise ValueError(msg)
        found = "no groups" if None in groups else f"{[*groups]}"
        msg = f"`group`: there is no group {group!r}; there are {found}."
        raise KeyError(msg)
    rows = groups[group]
    names = genes.obs_names if group is None else genes.obs["gene"]
    index = pd.Index(np.asarray(names)[rows].astype(str))
    if index.has_duplicates:
        msg = (
            f"Gene {index[index.duplicated()][0]!r} is there more than once: make names unique, or subset the AnnData."
        )
        raise ValueError(msg)
    return pd.Series(rows, index=index)


def rows_of(genes: AnnData, names: Sequence[str], group: str | None = None) -> npt.NDArray[np.int64]:
    """Rows of genes, by name.

    Raises
    ------
    KeyError
        If a gene is not there, with names that are like its.
    """
    place = genes_of_group(genes, group)
    missing = [name for name in names if name not in place.index]
    if missing:
        # names of other species differ by case alone
        upper = {name.upper(): name for name in place.index}
        close = [upper[name] for name in get_close_matches(missing[0].upper(), [*upper], n=3)]
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        msg = f"Gene {missing[0]!r}{more} is not among the {len(place):,} that have an embedding{'' if group is None else f' in {group!r}'}{hint} Genes that too few cells show have none."
        raise KeyError(msg)
    return place[[*names]].to_numpy()


def directions(genes: AnnData, rows: npt.NDArray[np.int64], center: bool) -> npt.NDArray[np.float32]:
    """Embeddings of length one, float32 ``(len(rows), d)``; those without length stay zero.

    Parameters
    ----------
    genes
        Genes.
    rows
        Those of one group.
    center
        Take the mean over these genes off.

    Raises
    ------
    ValueError
        If an embedding is not finite.
    """
    values = np.asarray(genes.X[rows], dtype=np.float64)
    broken = ~np.isfinite(values).all(axis=1)
    if broken.any():
        msg = f"The embeddings of {broken.sum()} genes are not finite, such as {genes.obs_names[rows[broken][0]]!r}."
        raise ValueError(msg)
    if center:
        values -= values.mean(axis=0)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.where(length > 0, length, 1)).astype(np.float32)
