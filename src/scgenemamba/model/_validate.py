"""Checks of user data at setup: each error names what is wrong and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from scgenemamba._logging import logger
from scgenemamba.tokens import canonical_identifiers, check_values, name_some

from ._scale import warn, where_counts_are

if TYPE_CHECKING:
    from anndata import AnnData

_LOOKS_UNLABELED = {"unknown", "na", "n/a", "nan", "none", "unassigned", "unlabeled", "unlabelled", "undefined", ""}


def report_duplicates(names: npt.NDArray[np.object_]) -> None:
    """Say which gene names occur in several columns."""
    identifiers = canonical_identifiers(names)
    values, counts = np.unique(identifiers[identifiers != ""].astype(str), return_counts=True)
    if (counts > 1).any():
        repeated = values[counts > 1]
        logger.info(
            f"{len(repeated)} gene names occur in several columns, whose counts are summed: {name_some(repeated)}."
        )


def check_chunk(rows: npt.NDArray[np.int64], chunk: sp.csr_matrix, adata: AnnData, var: pd.DataFrame) -> None:
    """Refuse values that no kind of expression data has.

    Raises
    ------
    ValueError
        At the first negative, NaN or infinite value, naming cell and gene.
    """
    bad = check_values(chunk)
    if bad is None:
        return
    row, column, value = bad
    cell, gene = adata.obs_names[rows[row]], var.index[column]
    if value < 0:
        msg = f"Value {value:g} of gene {gene!r} in cell {cell!r} is negative: the data look scaled. "
        msg += f"Ranks need counts (or log1p-normalised values). {where_counts_are(adata)}"
    else:
        msg = f"Value of gene {gene!r} in cell {cell!r} is {value}. Remove or replace such values first."
    raise ValueError(msg)


def warn_empty_cells(empty: npt.NDArray[np.int64], adata: AnnData) -> None:
    """Warn about cells without any expressed gene of the vocabulary."""
    if len(empty):
        warn(
            f"{len(empty)} of {adata.n_obs} cells express no gene of the vocabulary and get a meaningless embedding: "
            f"{name_some(adata.obs_names[empty])}. Filter them, for example with scanpy.pp.filter_cells."
        )


def point_out_unlabeled(categories: Any, labels_key: str, unlabeled_category: object) -> None:
    """Say which labels look as if they meant 'no label'."""
    looks = [c for c in categories if str(c).strip().lower() in _LOOKS_UNLABELED and c != unlabeled_category]
    if looks:
        warn(
            f"Labels {name_some(looks)} of obs[{labels_key!r}] look like missing labels, but count as cell types: only "
            f"{unlabeled_category!r} and NaN are unlabeled. Set `unlabeled_category` or rename them."
        )


def point_out_confounded(labels: pd.Series, batches: pd.Series, unlabeled_category: object) -> None:
    """Say which labels occur in one batch only, among the batches that have labels."""
    cells = pd.DataFrame({"label": labels.astype(object).to_numpy(), "batch": batches.astype(object).to_numpy()})
    # a batch without labels, such as a query, says nothing about what is in it
    pairs = cells[cells["label"].notna() & (cells["label"] != unlabeled_category)].drop_duplicates()
    n_batches = pairs["label"].value_counts(sort=False)
    alone = pairs[pairs["label"].map(n_batches) == 1]
    if pairs["batch"].nunique() < 2 or alone.empty:
        return
    where = [f"{label} (in {batch})" for label, batch in zip(alone["label"], alone["batch"], strict=True)]
    no_bridge = "No label is in two batches, so that labels and batches cannot be told apart. "
    warn(
        f"{len(alone)} of {len(n_batches)} labels of obs[{labels.name!r}] occur in one batch of obs[{batches.name!r}] only: "
        f"{name_some(where)}. {no_bridge if len(alone) == len(n_batches) else ''}These cells are kept as they are and not "
        "mixed with others, and learning their labels can pull the batches apart. If the types are truly absent elsewhere, "
        "there is nothing to fix. If they have another name there, give them one name; if some of their cells were not "
        f"annotated there, set the labels of those cells to {unlabeled_category!r}."
    )
