"""Registering an AnnData, and decisions that depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scvi.data import AnnDataManager
from scvi.data._utils import _assign_adata_uuid
from scvi.model.base import BaseModelClass

from scgenemamba.tokens import Scale

from ._constants import CATEGORICAL_KEY, CONTINUOUS_KEY, SIZE_FACTOR_KEY
from ._dataset import CellManager
from ._expression_field import ExpressionField
from ._fields import BatchField, CategoricalCovariatesField, ContinuousCovariatesField, LabelsField, SizeFactorField

if TYPE_CHECKING:
    from anndata import AnnData
    from scvi.data.fields import BaseAnnDataField

    from ._reference import GeneReference


def register(
    cls: type[BaseModelClass],
    adata: AnnData,
    setup_method_args: dict[str, Any],
    reference: GeneReference | None = None,
    **kwargs: Any,
) -> CellManager:
    """Register an AnnData with a model class.

    Parameters
    ----------
    cls
        The model class.
    adata
        Cells.
    setup_method_args
        What ``setup_anndata`` was called with, as scvi-tools keeps it.
    reference
        Pretrained model whose genes and factors are taken.
    **kwargs
        Of :meth:`scvi.data.AnnDataManager.register_fields`.
    """
    asked = setup_method_args["setup_args"]
    take_own_uuid(cls, adata)
    batch_key = asked["batch_key"]
    if batch_key is not None and batch_key not in adata.obs and "source_registry" not in kwargs:
        msg = f"{batch_key} not found in adata.obs (batch_key); it has {list(adata.obs.columns)}."
        raise KeyError(msg)
    fields: list[BaseAnnDataField] = [
        BatchField(batch_key),
        LabelsField(asked["labels_key"], asked["unlabeled_category"], batch_key),
        SizeFactorField(SIZE_FACTOR_KEY, asked["size_factor_key"], required=False),
        CategoricalCovariatesField(CATEGORICAL_KEY, asked["categorical_covariate_keys"]),
        ContinuousCovariatesField(CONTINUOUS_KEY, asked["continuous_covariate_keys"]),
        # last: the only one that takes long
        ExpressionField(asked["layer"], asked["use_raw"], asked["gene_key"], batch_key, reference),
    ]
    manager = CellManager(fields=fields, setup_method_args=setup_method_args)
    manager.register_fields(adata, **kwargs)
    cls.register_manager(manager)
    return manager


def resolve_likelihood(asked: str, scale: Scale) -> Literal["nb", "normal"]:
    """Likelihood that the data allow.

    Raises
    ------
    ValueError
        If counts are asked for and there are none, or the name is unknown.
    """
    if asked not in ("auto", "nb", "normal"):
        msg = f"Unknown gene_likelihood {asked!r}; choose 'auto', 'nb' or 'normal'."
        raise ValueError(msg)
    if asked == "nb" and scale.kind == "log":
        msg = f"gene_likelihood='nb' needs counts, and the data are {scale}. Use 'normal', or set up with the layer that holds counts."
        raise ValueError(msg)
    if asked == "auto":
        return "normal" if scale.kind == "log" else "nb"
    return asked  # type: ignore[return-value]


def take_own_uuid(cls: type[BaseModelClass], adata: AnnData) -> None:
    # A copy of a registered AnnData carries its id, and would take the original's place in the store
    manager: AnnDataManager | None = cls._setup_adata_manager_store.get(adata.uns.get("_scvi_uuid"))
    if manager is not None and manager.adata is not adata:
        _assign_adata_uuid(adata, overwrite=True)
