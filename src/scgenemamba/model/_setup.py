"""Decisions at setup that depend on the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from scvi.data import AnnDataManager
from scvi.data._utils import _assign_adata_uuid
from scvi.model.base import BaseModelClass

from scgenemamba.tokens import Scale

if TYPE_CHECKING:
    from anndata import AnnData


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
