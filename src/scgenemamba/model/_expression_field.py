"""The AnnData field of expression values: its genes, their factors and the scale of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scvi.data import _constants as scvi_constants
from scvi.data.fields import LayerField

from scgenemamba._logging import logger
from scgenemamba.tokens import Scale, Vocabulary, counts_from, nonzero_medians, to_token_space

from ._constants import GENES, MAX_CELLS_FOR_ESTIMATES, MEDIANS, SCALE, VARIABLE_GENES, X_KEY
from ._scale import scale_of, warn
from ._source import RowReader, expression_of, spread
from ._validate import check_chunk, gene_names, name_some, report_duplicates, warn_empty_cells
from ._variable_genes import rank_variable_genes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class ExpressionField(LayerField):
    """Expression values of X, a layer or raw, with genes matched by name, never by position.

    Registering training data makes the vocabulary, the rank factors and the order of variable genes.
    A query is checked in the same way and keeps the source's; its genes may come in any order, lack some
    or have more, and its values may be on another scale.

    Parameters
    ----------
    layer, use_raw, gene_key
        Where the values and the gene names are.
    batch_key
        Column whose batches the variable genes have to agree on.
    """

    def __init__(self, layer: str | None, use_raw: bool, gene_key: str | None, batch_key: str | None) -> None:
        # the user's matrix is never converted in place
        super().__init__(X_KEY, layer, is_count_data=False, correct_data_format=False)
        self.layer, self.use_raw, self.gene_key, self.batch_key = layer, use_raw, gene_key, batch_key
        if use_raw:
            self._attr_name = "raw"

    def get_field_data(self, adata: AnnData) -> Any:
        """The matrix that holds the values."""
        return expression_of(adata, self.layer, self.use_raw)[0]

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Check the values in one pass and estimate what the tokenizer needs."""
        matrix, var = expression_of(adata, self.layer, self.use_raw)
        names = gene_names(var, self.gene_key)
        report_duplicates(names)
        vocabulary = Vocabulary.from_names(names)
        sample_rows = spread(adata.n_obs, MAX_CELLS_FOR_ESTIMATES)
        sample, scale = _checked_pass(
            adata, RowReader(matrix), var, vocabulary.token_ids(names), vocabulary, sample_rows
        )
        medians = nonzero_medians(sample)
        detected = np.isfinite(medians)
        if not detected.any():
            msg = "No cell expresses any gene: all values are zero."
            raise ValueError(msg)
        batches = adata.obs[self.batch_key].to_numpy()[sample_rows] if self.batch_key else None
        return {
            **self._shape_of(adata, var),
            GENES: vocabulary.genes[detected[Vocabulary.FIRST_GENE :]],
            MEDIANS: medians[detected],
            VARIABLE_GENES: rank_variable_genes(sample[:, detected], batches),
            SCALE: scale.to_dict(),
        }

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Check a query and keep the source's vocabulary and factors."""
        matrix, var = expression_of(adata_target, self.layer, self.use_raw)
        names = gene_names(var, self.gene_key)
        report_duplicates(names)
        vocabulary = Vocabulary(state_registry[GENES])
        token_ids = vocabulary.token_ids(names)
        _report_overlap(names, token_ids, vocabulary)
        _, scale = _checked_pass(adata_target, RowReader(matrix), var, token_ids, vocabulary, np.arange(0))
        return {**state_registry, **self._shape_of(adata_target, var), SCALE: scale.to_dict()}

    def _shape_of(self, adata: AnnData, var: pd.DataFrame) -> dict[str, Any]:
        return {
            self.N_OBS_KEY: adata.n_obs,
            self.N_VARS_KEY: len(var),
            self.COLUMN_NAMES_KEY: np.array([str(name) for name in adata.var_names], dtype=object),
        }

    def get_data_registry(self) -> dict[str, Any]:
        """Where the values are, in scvi-tools' words."""
        return {scvi_constants._DR_ATTR_NAME: self.attr_name, scvi_constants._DR_ATTR_KEY: self.attr_key}


def _checked_pass(
    adata: AnnData,
    reader: RowReader,
    var: pd.DataFrame,
    token_ids: npt.NDArray[np.int32],
    vocabulary: Vocabulary,
    sample_rows: npt.NDArray[np.int64],
) -> tuple[sp.csr_matrix, Scale]:
    """One pass over all cells: refuse bad values, find empty cells, keep the sample in token space."""
    scale = scale_of(adata, reader)
    kept, empty = [], []
    for rows, chunk in reader.chunks():
        check_chunk(rows, chunk, adata, var)
        empty.append(rows[~_express_any(chunk, token_ids)])
        sample = chunk[np.isin(rows, sample_rows)]
        kept.append(to_token_space(counts_from(sample, scale), token_ids, vocabulary.n_tokens))
    warn_empty_cells(np.concatenate(empty) if empty else np.arange(0), adata)
    return sp.vstack(kept, format="csr"), scale


def _express_any(chunk: sp.csr_matrix, token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which cells express a gene of the vocabulary."""
    expressed = (chunk.data > 0) & (token_ids >= 0)[chunk.indices]
    filled = np.diff(chunk.indptr) > 0
    result = np.zeros(chunk.shape[0], dtype=bool)
    result[filled] = np.logical_or.reduceat(expressed, chunk.indptr[:-1][filled])
    return result


def _report_overlap(names: npt.NDArray[np.object_], token_ids: npt.NDArray[np.int32], vocabulary: Vocabulary) -> None:
    """Say how many genes of a query the model knows.

    Raises
    ------
    ValueError
        If it knows none.
    """
    genes = names[names != ""]
    known = np.unique(token_ids[token_ids >= 0])
    share = len(known) / len(vocabulary)
    if not len(known):
        msg = (
            f"None of the {len(genes)} genes is in the model's vocabulary of {len(vocabulary)}. The data have names such as "
            f"{name_some(genes, 3)}, the model {name_some(vocabulary.genes, 3)}. Name the var column with matching names: `gene_key=`."
        )
        raise ValueError(msg)
    message = f"{len(known)} of the model's {len(vocabulary)} genes are in the data ({share:.0%})."
    if share < 0.5:
        warn(f"{message} Embeddings and predictions from so few of the genes are less reliable.")
    else:
        logger.info(message)
