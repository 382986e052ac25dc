"""Registering data to a pretrained model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from scgenemamba._logging import logger
from scgenemamba.tokens import Vocabulary, counts_from, gene_names, map_genes, to_token_space

from ._checkpoint import SETUP_DEFAULTS
from ._constants import GENES, MAX_CELLS_FOR_ESTIMATES, X_KEY
from ._scale import scale_of
from ._setup import register
from ._source import RowReader, expression_of

if TYPE_CHECKING:
    from anndata import AnnData

    from ._reference import GeneReference

# scvi-tools warns of batches with fewer cells
_STAND_INS = 3


def is_set_up(cls: Any, adata: AnnData) -> bool:
    """Whether the user called ``setup_anndata`` for this AnnData (and not for one that it is a copy of)."""
    manager = cls._setup_adata_manager_store.get(adata.uns.get("_scvi_uuid"))
    if manager is None or not manager.by_user:
        return False
    if manager.adata is not adata:
        logger.info(
            "adata is a copy of an AnnData that was set up: set the copy up as well to keep its batches and labels."
        )
    return manager.adata is adata


def register_to(cls: Any, adata: AnnData, reference: GeneReference, setup: dict[str, Any]) -> None:
    """Register cells to a pretrained model; those that were set up keep their batches, labels and covariates."""
    by_user, asked = is_set_up(cls, adata), dict(setup)
    if by_user:
        asked = cls._setup_adata_manager_store[adata.uns["_scvi_uuid"]].registry["setup_args"]
    register(cls, adata, _setup_method_args(cls, asked), reference).by_user = by_user


def registry_without_data(cls: Any, reference: GeneReference, setup: dict[str, Any]) -> dict[str, Any]:
    """Registry of a pretrained model before it has seen any data."""
    from anndata import AnnData

    # empty cells, but the way through scvi-tools that makes the registry it expects, whatever its release
    genes = reference.vocabulary.genes.astype(str)
    nothing = AnnData(sp.csr_matrix((_STAND_INS, len(genes)), dtype=np.float32))
    nothing.var_names = genes
    asked = {**setup, "layer": None, "gene_key": None}
    reference = replace(reference, without_data=True)
    registry = dict(register(cls, nothing, _setup_method_args(cls, asked), reference).registry)
    registry["setup_args"] = _setup_method_args(cls, setup)["setup_args"]
    del cls._setup_adata_manager_store[nothing.uns["_scvi_uuid"]]
    return registry


def cells_in_token_space(adata: AnnData, registry: dict[str, Any]) -> sp.csr_matrix:
    """Cells of the first AnnData of a model, to estimate factors from: CSR ``(n_cells, n_tokens)``."""
    asked = registry["setup_args"]
    matrix, var = expression_of(adata, asked["layer"], asked["use_raw"])
    vocabulary = Vocabulary(registry["field_registries"][X_KEY]["state_registry"][GENES])
    reader = RowReader(matrix)
    token_ids = map_genes(gene_names(var, asked["gene_key"]), vocabulary).token_ids
    counts = counts_from(reader.sample(MAX_CELLS_FOR_ESTIMATES), scale_of(adata, reader))
    return to_token_space(counts, token_ids, vocabulary.n_tokens)


def lacks(adata: AnnData, registry: dict[str, Any], tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Which genes, given as token ids ``(g,)``, an AnnData of a model does not have."""
    asked = registry["setup_args"]
    _, var = expression_of(adata, asked["layer"], asked["use_raw"])
    vocabulary = Vocabulary(registry["field_registries"][X_KEY]["state_registry"][GENES])
    return ~np.isin(tokens, map_genes(gene_names(var, asked["gene_key"]), vocabulary).token_ids)


def _setup_method_args(cls: Any, setup: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_name": cls.__name__,
        "setup_method_name": "setup_anndata",
        "setup_args": {**SETUP_DEFAULTS, **setup},
    }
