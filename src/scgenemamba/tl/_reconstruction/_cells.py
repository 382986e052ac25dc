"""Which cells are scored, and which cells guesses learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scgenemamba._logging import logger
from scgenemamba.tl._cells import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.model import GeneMambaModel
    from scgenemamba.tokens import CellBatch


def cells_to_score(
    model: GeneMambaModel,
    adata: AnnData | None,
    indices: Sequence[int] | None,
    groupby: str | None,
    n_cells: int | None,
    seed: int,
) -> tuple[AnnData, npt.NDArray[np.int64]]:
    """Cells, and the rows to score, int64 ``(n,)``; see :func:`scgenemamba.tl.rank_reconstruction`.

    Raises
    ------
    KeyError
        If there is no column ``groupby``.
    IndexError
        If a row is beyond the cells.
    ValueError
        If no cell is left.
    """
    cells = model.adata if adata is None else adata
    if cells is None:
        msg = "The model has no cells of its own: give held-out ones, `adata=`."
        raise ValueError(msg)
    if groupby is not None and groupby not in cells.obs:
        msg = f"`groupby`: adata.obs has no column {groupby!r}; it has {[*cells.obs.columns]}."
        raise KeyError(msg)
    if groupby in ("cell", "method"):
        msg = f"`groupby`: the table has a column {groupby!r} of its own; rename that of adata.obs."
        raise ValueError(msg)
    rows = held_out(model) if adata is None and indices is None else rows_of(indices, cells.n_obs)
    if not len(rows):
        msg = "There are no cells to score: `indices` is empty, or `adata` is."
        raise ValueError(msg)
    if groupby is not None:
        rows = rows[cells.obs[groupby].iloc[rows].notna().to_numpy()]
        if not len(rows):
            msg = f"`groupby`: no cell has a value in {groupby!r}."
            raise ValueError(msg)
    if n_cells is not None and n_cells < len(rows):
        logger.info(f"{n_cells:,} of {len(rows):,} cells are drawn; `n_cells=None` scores all.")
        rows = np.sort(np.random.default_rng(seed).choice(rows, n_cells, replace=False))
    trained_on = np.isin(rows, getattr(model, "train_indices_", ())).sum() if cells is model.adata else 0
    if trained_on:
        logger.warning(f"The model was trained on {trained_on:,} of the {len(rows):,} cells: they are not held out.")
    return cells, rows


def held_out(model: GeneMambaModel) -> npt.NDArray[np.int64]:
    """Validation cells of the training, or those kept for a test."""
    for name in ("validation_indices_", "test_indices_"):
        rows = np.asarray(getattr(model, name, ()), dtype=np.int64)
        if len(rows):
            return np.sort(rows)
    msg = (
        "The model has no held-out cells: train it with train_size below 1, "
        "or give cells that it was not trained on as `adata`."
    )
    raise ValueError(msg)


def reference_cells(model: GeneMambaModel, reference: AnnData | None) -> tuple[AnnData, npt.NDArray[np.int64]]:
    """Cells that guesses learn from, and their rows.

    Raises
    ------
    ValueError
        If none are given and the model has no training cells, or there are none in them.
    """
    if reference is not None:
        if not reference.n_obs:
            msg = "`reference` has no cells."
            raise ValueError(msg)
        return reference, np.arange(reference.n_obs)
    rows = np.asarray(getattr(model, "train_indices_", ()), dtype=np.int64)
    if model.adata is None or not len(rows):
        msg = (
            "The model has no training cells at hand that the other guesses could learn from: give some as `reference`."
        )
        raise ValueError(msg)
    return model.adata, np.sort(rows)


def check_apart(
    cells: AnnData, rows: npt.NDArray[np.int64], reference: AnnData, reference_rows: npt.NDArray[np.int64]
) -> None:
    """Stop if cells to score are among the reference cells of the same AnnData.

    Raises
    ------
    ValueError
        If one is.
    """
    both = np.intersect1d(rows, reference_rows) if cells is reference else rows[:0]
    if len(both):
        raise ValueError(_known(str(cells.obs_names[both[0]])))


def check_not_known(
    name: str,
    tokens: npt.NDArray[np.int64],
    names: Mapping[str, int],
    cells: Sequence[npt.NDArray[np.int64]],
) -> None:
    """Stop if a cell of that name and with these genes is among the reference cells.

    Raises
    ------
    ValueError
        If it is.
    """
    row = names.get(name)
    if row is not None and np.array_equal(cells[row], tokens):
        raise ValueError(_known(name))


def _known(name: str) -> str:
    return (
        f"Cell {name!r} is among the reference cells, so that the nearest cell is itself: score held-out cells "
        "(`indices=model.validation_indices`), or give other cells as `reference`."
    )


def batches_of(
    model: GeneMambaModel, adata: AnnData, rows: npt.NDArray[np.int64], batch_size: int | None
) -> Iterable[CellBatch]:
    """Batches of the cells in the order of the rows, tokens only."""
    loader: Any = model._make_data_loader(
        adata=model._validate_anndata(adata), indices=rows, batch_size=batch_size, data_and_attributes=[]
    )
    return loader
