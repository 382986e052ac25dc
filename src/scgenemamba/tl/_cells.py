"""Cells that are asked for, and groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData


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
    chosen = slice(None) if indices is None else np.asarray(indices, dtype=None if len(indices) else np.int64)
    rows: Any = np.arange(adata.n_obs)[chosen]
    if not len(rows):
        msg = "There are no cells: `indices` is empty." if adata.n_obs else "`adata` has no cells."
        raise ValueError(msg)
    groups = np.zeros(len(rows), dtype=np.int64)
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
