"""Cells that are asked for, and groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData


def rows_of(indices: Sequence[int] | None, n_obs: int) -> npt.NDArray[np.int64]:
    """Rows that a selection names, a list or a mask, int64; ``None`` for all.

    Raises
    ------
    IndexError
        If there is no such row, or the mask is of another size.
    """
    if indices is None:
        return np.arange(n_obs)
    given = np.asarray(indices)
    if given.dtype == bool:
        if given.shape != (n_obs,):
            msg = f"`indices`: a mask must have a value for each of {n_obs:,} cells, got shape {given.shape}."
            raise IndexError(msg)
        return np.flatnonzero(given)
    rows = given.astype(np.int64)
    beyond = rows[(rows < 0) | (rows >= n_obs)]
    if len(beyond):
        msg = f"`indices`: there is no cell {beyond[0]}; there are {n_obs:,}."
        raise IndexError(msg)
    return rows


def chosen_cells(
    adata: AnnData, groupby: str | None, indices: Sequence[int] | None, max_cells: int | None, random_state: int
) -> npt.NDArray[np.int64]:
    """Positions of the cells asked for, in their order: those with a group, at most ``max_cells`` of each.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If no cell is left, or ``max_cells`` is below 1.
    """
    if max_cells is not None and max_cells < 1:
        msg = f"`max_cells` must be at least 1, got {max_cells}."
        raise ValueError(msg)
    rows = rows_of(indices, adata.n_obs)
    if not len(rows):
        msg = "There are no cells: `indices` is empty." if adata.n_obs else "`adata` has no cells."
        raise ValueError(msg)
    groups: npt.NDArray[np.integer] = np.zeros(len(rows), dtype=np.int64)
    if groupby is not None:
        groups = group_column(adata, groupby).cat.codes.to_numpy()[rows]
        if (groups < 0).all():
            msg = f"`groupby`: no cell has a value in {groupby!r}."
            raise ValueError(msg)
    kept = groups >= 0
    if max_cells is not None:
        order = np.random.default_rng(random_state).permutation(len(rows))
        place = np.empty(len(rows), dtype=np.int64)
        place[order] = pd.Series(groups[order]).groupby(groups[order]).cumcount()
        kept &= place < max_cells
    return rows[kept]


def group_column(adata: AnnData, groupby: str, name: str = "groupby") -> pd.Series:
    """Column of groups as text, categorical in the order of its categories.

    Raises
    ------
    KeyError
        If there is no such column.
    """
    if groupby not in adata.obs:
        msg = f"`{name}`: obs has no column {groupby!r}; it has {list(adata.obs.columns)}."
        raise KeyError(msg)
    column = adata.obs[groupby].astype("category")
    return column.cat.rename_categories([str(category) for category in column.cat.categories])
