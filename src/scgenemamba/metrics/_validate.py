"""Checks of what a benchmark is given, before long work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scgenemamba._logging import logger

from ._cells import Cells
from ._integration import check_scib_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp
    from anndata import AnnData

    from ._methods import Method

TASKS = ("integration", "label-aware", "annotation")
# Counts that were recovered from logarithms are whole up to rounding
_ROUNDING = 1e-2


def check_tasks(tasks: Sequence[str], methods: Sequence[Method], batch: np.ndarray) -> None:
    """Raise if tasks are unknown, need what is missing, or no method can do any.

    Raises
    ------
    ValueError, ImportError
        With the name and the remedy.
    """
    if unknown := [task for task in tasks if task not in TASKS]:
        msg = f"Unknown task {unknown[0]!r}; choose from {', '.join(TASKS)}."
        raise ValueError(msg)
    if not any(can_do(method, task) for method in methods for task in tasks):
        msg = f"None of {', '.join(method.name for method in methods)} does {' or '.join(tasks)}."
        raise ValueError(msg)
    if set(tasks) & {"integration", "label-aware"}:
        check_scib_metrics()
        if len(np.unique(batch)) < 2:
            msg = (
                f"All cells are of one batch, {str(batch[0])!r}, so there is nothing to integrate. "
                "Choose the task 'annotation' with the splits 'random' and 'scarce', or another batch column."
            )
            raise ValueError(msg)


def can_do(method: Method, task: str) -> bool:
    """Whether a method does a task."""
    return {"integration": method.label_free, "label-aware": method.label_aware, "annotation": method.annotates}[task]


def cells_and_labels(
    adata: AnnData, batch_key: str, labels_key: str, layer: str | None, gene_key: str | None, use_raw: bool
) -> tuple[Cells, np.ndarray]:
    """Cells that have a label and counts, and their labels ``(n_cells,)``.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If counts are missing or cannot be recovered, or fewer than two labels are left.
    """
    for column in (batch_key, labels_key):
        if column not in adata.obs:
            msg = f"{column!r} not found in adata.obs; it has {list(adata.obs.columns)}."
            raise KeyError(msg)
    counts = _counts(adata, layer, use_raw)
    genes = _gene_names(adata, gene_key, use_raw)
    labelled = adata.obs[labels_key].notna().to_numpy()
    empty = np.asarray(counts.sum(1)).ravel() == 0
    if not labelled.all() or empty.any():
        logger.info(f"Left out: {(~labelled).sum()} cells without {labels_key}, {empty.sum()} cells without counts.")
    kept = np.flatnonzero(labelled & ~empty)
    batches = adata.obs[batch_key].iloc[kept]
    if batches.isna().any():
        msg = f"{batches.isna().sum()} cells have no {batch_key!r}; fill it in or leave these cells out."
        raise ValueError(msg)
    labels = adata.obs[labels_key].to_numpy()[kept].astype(str)
    if len(np.unique(labels)) < 2:
        msg = f"{labels_key!r} has {len(np.unique(labels))} labels among {len(kept)} cells; the benchmark needs two."
        raise ValueError(msg)
    return Cells(counts[kept], genes, batches.to_numpy().astype(str), kept), labels


def _counts(adata: AnnData, layer: str | None, use_raw: bool) -> sp.csr_matrix:
    from scgenemamba.model import linear_expression

    values = linear_expression(adata, layer=layer, use_raw=use_raw)
    whole = np.rint(values.data)
    if np.abs(values.data - whole).max(initial=0) > _ROUNDING:
        msg = (
            "The benchmark needs counts, which scVI and others are made for, and these values are none, nor a "
            "normalisation that they can be recovered from. Name the layer that holds counts, or raw."
        )
        raise ValueError(msg)
    values.data = whole
    return values


def _gene_names(adata: AnnData, gene_key: str | None, use_raw: bool) -> np.ndarray:
    source = adata.raw if use_raw else adata
    if gene_key is None:
        return np.asarray(source.var_names, dtype=str)
    if gene_key not in source.var:
        msg = f"{gene_key!r} not found in {'adata.raw.var' if use_raw else 'adata.var'}; it has {list(source.var.columns)}."
        raise KeyError(msg)
    return source.var[gene_key].to_numpy().astype(str)
