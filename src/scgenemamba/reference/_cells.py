"""Cells of all files as one AnnData."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scgenemamba._logging import logger
from scgenemamba.pretraining._files import files_of
from scgenemamba.tokens import name_some

if TYPE_CHECKING:
    from anndata import AnnData

    from ._config import CellsConfig

#: Columns of ``obs``.
STUDY, LABEL, BACKGROUND = "study", "label", "background"
#: In the column of labels.
NO_LABEL = "Unknown"


def read_cells(config: CellsConfig) -> AnnData:
    """All cells, genes that enough of them express; ``obs`` holds study, label and whether a cell is background.

    Raises
    ------
    FileNotFoundError
        If a pattern matches no file.
    KeyError
        If a column is missing.
    ValueError
        If no cell has a label; those of the background do not count.
    """
    paths = [(path, False) for path in files_of(config.files)] + [(path, True) for path in files_of(config.background)]
    parts = {path: _read(Path(path), config, background=background) for path, background in paths}
    cells = ad.concat(parts, join="outer", index_unique="-", fill_value=0)
    cells.X = sp.csr_matrix(cells.X, dtype=np.float32)
    if (cells.obs[LABEL] == NO_LABEL).all():
        msg = f"No cell has a label in the column {config.labels_key!r} (cells.labels_key)."
        raise ValueError(msg)
    n_cells = cells.X.getnnz(axis=0)
    cells = cells[:, n_cells >= config.min_cells].copy()
    for column in (STUDY, LABEL):
        cells.obs[column] = pd.Categorical(cells.obs[column])
    n_labelled = int((cells.obs[LABEL] != NO_LABEL).sum())
    logger.info(
        f"{cells.n_obs:,} cells of {cells.obs[STUDY].nunique()} studies, {n_labelled:,} with one of "
        f"{cells.obs[LABEL].nunique() - (n_labelled < cells.n_obs)} labels, {cells.n_vars:,} genes."
    )
    return cells


def labelled_studies(cells: AnnData) -> list[str]:
    """Studies of which some cells have a label."""
    return sorted(set(cells.obs[STUDY][(cells.obs[LABEL] != NO_LABEL).to_numpy()]))


def _read(path: Path, config: CellsConfig, *, background: bool) -> AnnData:
    adata = ad.read_h5ad(path)
    for name, table, where in (
        ("layer", adata.layers, "layers"),
        ("gene_key", adata.var, "var"),
        ("batch_key", adata.obs, "obs"),
    ):
        key = getattr(config, name)
        if key is not None and key not in table:
            msg = f"{path} has no {key!r} in {where} (cells.{name}); it has {name_some(list(table))}."
            raise KeyError(msg)
    genes = adata.var_names if config.gene_key is None else pd.Index(adata.var[config.gene_key].astype(str))
    labels = np.full(adata.n_obs, NO_LABEL, dtype=object)
    if config.labels_key in adata.obs and not background:
        column = adata.obs[config.labels_key]
        has_one = (column.notna() & (column != config.unlabeled_category)).to_numpy()
        labels[has_one] = column[has_one].astype(str)
    studies = path.stem if config.batch_key is None else adata.obs[config.batch_key].astype(str).to_numpy()
    obs = pd.DataFrame({STUDY: studies, LABEL: labels, BACKGROUND: background}, index=adata.obs_names)
    values = adata.X if config.layer is None else adata.layers[config.layer]
    part = ad.AnnData(sp.csr_matrix(values, dtype=np.float32), obs=obs, var=pd.DataFrame(index=genes))
    if not genes.is_unique:
        # the first of several columns of a gene
        part = part[:, ~genes.duplicated()].copy()
    return part
