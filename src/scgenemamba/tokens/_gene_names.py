"""Names of the genes of a table of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scgenemamba._logging import logger


def name_some(names: Any, limit: int = 5) -> str:
    """A few of the names, and how many more there are."""
    names = [str(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def gene_names(var: pd.DataFrame, gene_key: str | None) -> npt.NDArray[np.object_]:
    """Name of each feature, ``""`` for features that are not genes.

    Raises
    ------
    ValueError
        If the column does not exist or no feature is a gene.
    """
    if gene_key is not None and gene_key not in var:
        msg = f"Column {gene_key!r} (gene_key) not found in var; it has {list(var.columns)}."
        raise ValueError(msg)
    column = var.index if gene_key is None else var[gene_key]
    names = np.array(["" if pd.isna(name) else str(name).strip() for name in column], dtype=object)
    if "feature_types" in var:
        other = (var["feature_types"].astype(str) != "Gene Expression").to_numpy()
        if other.any():
            kinds = name_some(var["feature_types"].astype(str)[other].unique())
            logger.info(f"{other.sum()} of {len(var)} features are not genes (feature_types {kinds}) and are left out.")
            names[other] = ""
    if not (names != "").any():
        msg = "No feature is a gene: `feature_types` holds no 'Gene Expression', or all gene names are empty."
        raise ValueError(msg)
    return names
