"""Cells of a registered AnnData as ragged token batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scvi.data import AnnDataManager
from torch.utils.data import Dataset, Subset

from scgenemamba.tokens import (
    CellBatch,
    RankTokenizer,
    Scale,
    Vocabulary,
    counts_from,
    gene_names,
    map_genes,
    official_downstream,
    to_tensors,
    to_token_space,
    values_of,
)

from ._constants import (
    BATCH_KEY,
    CATEGORICAL_KEY,
    CONTINUOUS_KEY,
    GENES,
    LABELS_KEY,
    MEDIANS,
    RANK_MODE,
    SCALE,
    SIZE_FACTOR_KEY,
    VARIABLE_GENES,
    X_KEY,
)
from ._expression_field import ExpressionField
from ._scale import scale_of
from ._source import RowReader, expression_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_DTYPES = {
    BATCH_KEY: np.int64,
    LABELS_KEY: np.int64,
    CATEGORICAL_KEY: np.int64,
    CONTINUOUS_KEY: np.float32,
    SIZE_FACTOR_KEY: np.float32,
}


class CellDataset(Dataset):
    """Reads, checks the scale of, ranks and tokenises cells; one item is a whole batch.

    Parameters
    ----------
    manager
        Manager of a registered AnnData.
    keys
        Registered data to yield besides the tokens (of ``"X"``, the decoder's genes), ``None`` for all.

    Raises
    ------
    ValueError
        If the values are not on the scale that they were registered with.
    """

    def __init__(self, manager: AnnDataManager, keys: Collection[str] | None = None) -> None:
        adata = manager.adata
        field = next(field for field in manager.fields if isinstance(field, ExpressionField))
        registry = manager.get_state_registry(X_KEY)
        matrix, var = expression_of(adata, field.layer, field.use_raw)
        vocabulary = Vocabulary(registry[GENES])
        self.n_cells: int = adata.n_obs
        self._reader = RowReader(matrix)
        self._scale = scale_of(adata, self._reader)
        if self._scale != Scale(**registry[SCALE]):
            msg = f"The expression values were {Scale(**registry[SCALE])} at setup_anndata and are now {self._scale}. "
            msg += "Keep the counts, for example in a layer, and set up again with `layer=`."
            raise ValueError(msg)
        self._token_ids = map_genes(gene_names(var, field.gene_key), vocabulary).token_ids
        self._n_tokens = vocabulary.n_tokens
        self._rank_mode = registry.get(RANK_MODE, "median")
        factors = np.ones(len(vocabulary)) if self._rank_mode == "raw" else registry[MEDIANS]
        self._tokenizer = RankTokenizer(np.concatenate([np.full(Vocabulary.FIRST_GENE, np.nan), factors]))
        self._decoder_tokens = registry[VARIABLE_GENES] if keys is None or X_KEY in keys else None
        self._per_cell = {
            key: np.asarray(_column(manager, key), dtype=dtype)
            for key, dtype in _DTYPES.items()
            if (keys is None or key in keys) and _has(manager, key)
        }

    def __len__(self) -> int:
        return self.n_cells

    def __getitem__(self, indices: int | Sequence[int] | npt.NDArray[np.integer]) -> CellBatch:
        """Batch of the given cells, in the order asked for."""
        rows = np.atleast_1d(np.asarray(indices))
        values = self._reader(rows)
        counts = to_token_space(counts_from(values, self._scale), self._token_ids, self._n_tokens)
        if self._rank_mode == "official_downstream":
            ranked = official_downstream(values, self._token_ids, None)
        else:
            ranked = self._tokenizer(counts)
        arrays = {
            "tokens": ranked.tokens,
            "cu_seqlens": ranked.cu_seqlens,
            "cell": rows.astype(np.int64),
            **{key: values[rows] for key, values in self._per_cell.items()},
        }
        if self._decoder_tokens is not None:
            arrays["expression"] = values_of(counts, self._decoder_tokens)
            arrays["total"] = np.asarray(counts.sum(axis=1), dtype=np.float32)
        return to_tensors(arrays)


class CellManager(AnnDataManager):
    """AnnDataManager whose data sets yield token batches.

    Attributes
    ----------
    by_user
        Whether the user called ``setup_anndata``; data that a model registers by itself are not set up.
    """

    by_user = False

    def create_torch_dataset(
        self,
        indices: Sequence[int] | Sequence[bool] | None = None,
        data_and_attributes: Collection[str] | None = None,
        load_sparse_tensor: bool = False,
    ) -> Dataset:
        """Data set of the registered cells: ragged tokens, and the data asked for."""
        dataset = CellDataset(self, data_and_attributes)
        return dataset if indices is None else Subset(dataset, indices)


def _has(manager: AnnDataManager, key: str) -> bool:
    if key not in manager.data_registry:
        return False
    place = manager.data_registry[key]
    return place["attr_key"] in getattr(manager.adata, place["attr_name"])


def _column(manager: AnnDataManager, key: str) -> Any:
    values = manager.get_from_registry(key)
    return values.to_numpy() if hasattr(values, "to_numpy") else values
