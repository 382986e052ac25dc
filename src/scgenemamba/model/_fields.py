"""AnnData fields: genes matched by name, batch and labels that a query may lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi.data.fields import CategoricalJointObsField, CategoricalObsField, NumericalJointObsField, NumericalObsField

from scgenemamba._logging import logger
from scgenemamba.tokens import name_some

from ._constants import BATCH_KEY, LABELS_KEY
from ._scale import warn
from ._validate import point_out_confounded, point_out_unlabeled

if TYPE_CHECKING:
    from anndata import AnnData


class BatchField(CategoricalObsField):
    """Batch of each cell. Only the decoder reads it, so a query may have new batches, or no batch column.

    Cells of a batch that the source does not know get code -1; with ``extend_categories`` their batches become known.
    """

    def __init__(self, batch_key: str | None) -> None:
        super().__init__(BATCH_KEY, batch_key)

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Register the batches of the training data."""
        if not self.is_default:
            self.validate_field(adata)
            column = adata.obs[self._original_attr_key]
            if column.isna().any():
                missing = adata.obs_names[column.isna().to_numpy()]
                msg = f"obs[{self._original_attr_key!r}] (batch_key) is missing for cells {name_some(missing)}."
                raise ValueError(msg)
            sizes = column.value_counts()
            if (sizes == 1).any():
                warn(f"Batches of a single cell cannot be corrected: {name_some(sizes.index[sizes == 1])}.")
        return super().register_field(adata)

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Encode the batches of a query by the source's categories."""
        if self.is_default:
            adata_target.obs[self.attr_key] = 0
            return dict(state_registry)
        known = state_registry[self.CATEGORICAL_MAPPING_KEY]
        if kwargs.get("extend_categories") and self._original_attr_key in adata_target.obs:
            column = pd.Categorical(adata_target.obs[self._original_attr_key]).remove_unused_categories()
            known = np.array([*known, *[c for c in column.categories if c not in set(known)]], dtype=object)
        adata_target.obs[self.attr_key] = _codes(adata_target.obs, self._original_attr_key, known)
        return {**state_registry, self.CATEGORICAL_MAPPING_KEY: known}


class LabelsField(CategoricalObsField):
    """Cell type of each cell; the unlabeled category comes last, missing values belong to it.

    A query may lack the column, and labels that the source does not know count as unlabeled there.
    """

    UNLABELED_CATEGORY = "unlabeled_category"

    def __init__(self, labels_key: str | None, unlabeled_category: str, batch_key: str | None = None) -> None:
        super().__init__(LABELS_KEY, labels_key)
        self._unlabeled = unlabeled_category
        self._batch_key = batch_key

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Register the labels of the training data."""
        if self.is_default:
            # without labels, all cells are unlabeled
            adata.obs[self.attr_key] = 0
            return self._state([])
        self.validate_field(adata)
        column = adata.obs[self._original_attr_key]
        categories = [c for c in pd.Categorical(column).remove_unused_categories().categories if c != self._unlabeled]
        if column.isna().any():
            logger.info(
                f"{int(column.isna().sum())} cells have no value in obs[{self._original_attr_key!r}] and are unlabeled."
            )
        point_out_unlabeled(categories, self._original_attr_key, self._unlabeled)
        if not categories:
            msg = f"All cells of obs[{self._original_attr_key!r}] (labels_key) are {self._unlabeled!r} or missing: no labels to learn."
            raise ValueError(msg)
        if len(categories) == 1:
            warn(
                f"obs[{self._original_attr_key!r}] has the single label {categories[0]!r}: every prediction will be it."
            )
        if self._batch_key is not None:
            point_out_confounded(column, adata.obs[self._batch_key], self._unlabeled)
        return self._encode(adata, categories)

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Encode the labels of a query by the source's categories."""
        categories = list(state_registry[self.CATEGORICAL_MAPPING_KEY][:-1])
        if self.is_default:
            adata_target.obs[self.attr_key] = 0
            return self._state([])
        if self._original_attr_key in adata_target.obs:
            present = pd.Categorical(adata_target.obs[self._original_attr_key]).remove_unused_categories().categories
            unknown = [c for c in present if c not in categories and c != self._unlabeled]
            if unknown:
                logger.info(f"Labels unknown to the model count as unlabeled: {name_some(unknown)}.")
        return self._encode(adata_target, categories)

    def _encode(self, adata: AnnData, categories: list[Any]) -> dict[str, Any]:
        codes = _codes(adata.obs, self._original_attr_key, categories)
        adata.obs[self.attr_key] = np.where(codes < 0, len(categories), codes)
        return self._state(categories)

    def _state(self, categories: list[Any]) -> dict[str, Any]:
        return {
            self.CATEGORICAL_MAPPING_KEY: np.array([*categories, self._unlabeled], dtype=object),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            self.UNLABELED_CATEGORY: self._unlabeled,
        }

    def get_summary_stats(self, state_registry: dict[str, Any]) -> dict[str, int]:
        """Number of categories, the unlabeled one included."""
        return {self.count_stat_key: len(state_registry[self.CATEGORICAL_MAPPING_KEY])}

    def validate_field(self, adata: AnnData) -> None:
        """Check that the column exists."""
        if not self.is_default and self._original_attr_key not in adata.obs:
            msg = f"{self._original_attr_key} not found in adata.obs (labels_key); it has {list(adata.obs.columns)}."
            raise KeyError(msg)


class CategoricalCovariatesField(CategoricalJointObsField):
    """Categorical covariates of the decoder; a query may lack them (code -1)."""

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Encode the covariates of a query by the source's categories."""
        mappings = state_registry[self.MAPPINGS_KEY]
        codes = {key: _codes(adata_target.obs, key, mappings[key]) for key in state_registry[self.FIELD_KEYS_KEY]}
        adata_target.obsm[self.attr_key] = pd.DataFrame(codes, index=adata_target.obs_names)
        return dict(state_registry)


class ContinuousCovariatesField(NumericalJointObsField):
    """Continuous covariates of the decoder; a query may lack them (NaN)."""

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Copy the covariates that a query has."""
        columns = {key: adata_target.obs.get(key, np.nan) for key in state_registry[self.COLUMNS_KEY]}
        adata_target.obsm[self.attr_key] = pd.DataFrame(columns, index=adata_target.obs_names)
        return dict(state_registry)


class SizeFactorField(NumericalObsField):
    """Size factor of each cell, read by the decoder; a query may lack it."""

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Nothing to encode."""
        return dict(state_registry)


def _codes(obs: pd.DataFrame, key: str, categories: Any) -> np.ndarray:
    if key not in obs:
        return np.full(len(obs), -1, dtype=np.int64)
    return pd.Categorical(obs[key], categories=list(categories)).codes.astype(np.int64)
