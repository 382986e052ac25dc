"""The AnnData field of expression values: its genes, their factors and the scale of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scvi.data import _constants as scvi_constants
from scvi.data.fields import LayerField

from scgenemamba._logging import logger
from scgenemamba.tokens import (
    GeneReport,
    Scale,
    Vocabulary,
    check_coverage,
    counts_from,
    gene_names,
    map_genes,
    nonzero_medians,
    to_token_space,
)

from ._constants import (
    FACTORS_SOURCE,
    GENE_REPORT,
    GENES,
    MAX_CELLS_FOR_ESTIMATES,
    MEDIANS,
    MIN_COUNTS_SHARE,
    RANK_MODE,
    SCALE,
    VARIABLE_GENES,
    X_KEY,
)
from ._reference import GeneReference
from ._scale import scale_of, warn
from ._source import RowReader, expression_of, spread
from ._validate import check_chunk, report_duplicates, warn_empty_cells
from ._variable_genes import rank_variable_genes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_CELLS_FOR_COVERAGE = 2_048


class ExpressionField(LayerField):
    """Expression values of X, a layer or raw, with genes matched by name, never by position.

    Registering training data makes the vocabulary, the rank factors and the order of variable genes; with a reference,
    the first two are those of a pretrained model. A query is checked in the same way and keeps the source's; its genes
    may come in any order, lack some or have more, be named otherwise, and its values may be on another scale.

    Parameters
    ----------
    layer, use_raw, gene_key
        Where the values and the gene names are.
    batch_key
        Column whose batches the variable genes have to agree on.
    reference
        Pretrained model whose genes and factors are taken.
    """

    def __init__(
        self,
        layer: str | None,
        use_raw: bool,
        gene_key: str | None,
        batch_key: str | None,
        reference: GeneReference | None = None,
    ) -> None:
        # the user's matrix is never converted in place
        super().__init__(X_KEY, layer, is_count_data=False, correct_data_format=False)
        self.layer, self.use_raw, self.gene_key, self.batch_key = layer, use_raw, gene_key, batch_key
        self.reference = reference
        if use_raw:
            self._attr_name = "raw"

    def get_field_data(self, adata: AnnData) -> Any:
        """The matrix that holds the values."""
        return expression_of(adata, self.layer, self.use_raw)[0]

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Check the values in one pass and estimate what the tokenizer needs."""
        matrix, var = expression_of(adata, self.layer, self.use_raw)
        names = gene_names(var, self.gene_key)
        if self.reference is not None and self.reference.without_data:
            return {**self._shape_of(adata, var), self.N_OBS_KEY: 0, **_without_data(self.reference)}
        report_duplicates(names)
        sample_rows = spread(adata.n_obs, MAX_CELLS_FOR_ESTIMATES)
        batches = adata.obs[self.batch_key].to_numpy()[sample_rows] if self.batch_key else None
        reader = RowReader(matrix)
        scale = scale_of(adata, reader)
        if self.reference is not None:
            vocabulary = self.reference.vocabulary
            token_ids, report = _match(reader, scale, names, vocabulary, self.reference.min_counts_share)
            sample = _checked_pass(adata, reader, scale, var, token_ids, vocabulary, sample_rows)
            genes = {**self.reference.state(sample), GENE_REPORT: report}
            variable = rank_variable_genes(sample[:, Vocabulary.FIRST_GENE :], batches)
        else:
            vocabulary = Vocabulary.from_names(names)
            sample = _checked_pass(adata, reader, scale, var, vocabulary.token_ids(names), vocabulary, sample_rows)
            genes, detected = _own_genes(vocabulary, sample)
            variable = rank_variable_genes(sample[:, detected], batches)
        return {**self._shape_of(adata, var), **genes, VARIABLE_GENES: variable, SCALE: scale.to_dict()}

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Check a query and keep the source's vocabulary and factors."""
        matrix, var = expression_of(adata_target, self.layer, self.use_raw)
        names = gene_names(var, self.gene_key)
        report_duplicates(names)
        vocabulary, reader = Vocabulary(state_registry[GENES]), RowReader(matrix)
        scale = scale_of(adata_target, reader)
        token_ids, report = _match(reader, scale, names, vocabulary, state_registry.get(MIN_COUNTS_SHARE, 0.0))
        _checked_pass(adata_target, reader, scale, var, token_ids, vocabulary, np.arange(0))
        own = {**self._shape_of(adata_target, var), GENE_REPORT: report, SCALE: scale.to_dict()}
        return {**state_registry, **own}

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
    scale: Scale,
    var: pd.DataFrame,
    token_ids: npt.NDArray[np.int32],
    vocabulary: Vocabulary,
    sample_rows: npt.NDArray[np.int64],
) -> sp.csr_matrix:
    """One pass over all cells: refuse bad values, find empty cells, keep the sample in token space."""
    kept, empty = [], []
    for rows, chunk in reader.chunks():
        check_chunk(rows, chunk, adata, var)
        empty.append(rows[~_express_any(chunk, token_ids)])
        sample = chunk[np.isin(rows, sample_rows)]
        kept.append(to_token_space(counts_from(sample, scale), token_ids, vocabulary.n_tokens))
    warn_empty_cells(np.concatenate(empty) if empty else np.arange(0), adata)
    return sp.vstack(kept, format="csr")


def _express_any(chunk: sp.csr_matrix, token_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which cells express a gene of the vocabulary."""
    expressed = (chunk.data > 0) & (token_ids >= 0)[chunk.indices]
    filled = np.diff(chunk.indptr) > 0
    result = np.zeros(chunk.shape[0], dtype=bool)
    result[filled] = np.logical_or.reduceat(expressed, chunk.indptr[:-1][filled])
    return result


def _without_data(reference: GeneReference) -> dict[str, Any]:
    """State of a pretrained model that has seen no data yet."""
    nothing = sp.csr_matrix((0, reference.vocabulary.n_tokens))
    return {
        **reference.state(nothing),
        GENE_REPORT: {},
        VARIABLE_GENES: np.arange(0, dtype=np.int32),
        SCALE: Scale("counts").to_dict(),
    }


def _own_genes(vocabulary: Vocabulary, sample: sp.csr_matrix) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """Vocabulary and factors of the genes that any cell of the training data expresses, and which columns those are."""
    medians = nonzero_medians(sample)
    detected = np.isfinite(medians)
    if not detected.any():
        msg = "No cell expresses any gene: all values are zero."
        raise ValueError(msg)
    genes = {
        GENES: vocabulary.genes[detected[Vocabulary.FIRST_GENE :]],
        MEDIANS: medians[detected],
        RANK_MODE: "median",
        FACTORS_SOURCE: f"estimated from {sample.shape[0]} cells of the training data",
    }
    return genes, detected


def _match(
    reader: RowReader, scale: Scale, names: npt.NDArray[np.object_], vocabulary: Vocabulary, least: float
) -> tuple[npt.NDArray[np.int32], dict[str, Any]]:
    """Token id of each feature, and the report of the matching.

    Raises
    ------
    ValueError
        If no gene is known, or the known ones hold too small a share of the counts.
    """
    gene_map = map_genes(names, vocabulary)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.asarray(counts_from(reader.sample(_CELLS_FOR_COVERAGE), scale).sum(axis=0)).ravel()
    # bad values are refused, and named, by the pass that follows
    report = GeneReport.of(gene_map, vocabulary, np.where(np.isfinite(sums), np.maximum(sums, 0.0), 0.0))
    warning = check_coverage(report, stop_below=least)
    if warning is None:
        logger.info(str(report))
    else:
        warn(warning)
    return gene_map.token_ids, report.to_dict()
