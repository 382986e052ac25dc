"""What the values of an AnnData are, and where its counts lie."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scvi import settings

from scgenemamba.tokens import Scale, check_values, counts_from, infer_scale

from ._source import RowReader, expression_of

if TYPE_CHECKING:
    from anndata import AnnData

_CELLS_FOR_SCALE = 512


def warn(message: str) -> None:
    """Warn the user at the place that called us."""
    warnings.warn(message, UserWarning, stacklevel=settings.warnings_stacklevel)


def scale_of(adata: AnnData, reader: RowReader) -> Scale:
    """What the values are.

    Raises
    ------
    ValueError
        If they are neither counts nor an invertible normalisation of counts.
    """
    sample = reader.sample(_CELLS_FOR_SCALE)
    if check_values(sample) is not None:
        return Scale("linear")  # refused by the full pass, which names cell and gene
    recorded = adata.uns.get("log1p")
    log_base = None
    if recorded is not None:
        base = recorded.get("base") if hasattr(recorded, "get") else None
        log_base = float(np.e) if base is None else float(base)
    scale = infer_scale(sample, log_base)
    if scale is None:
        msg = (
            "The values are no counts, and the base of their logarithm is unknown. If they are log1p-normalised, say so "
            f"with adata.uns['log1p'] = {{'base': None}} (None for natural logarithms). {where_counts_are(adata)}"
        )
        raise ValueError(msg)
    if scale.kind == "linear":
        warn(
            "The values are not integers: they are taken as counts on another scale (normalised or corrected, "
            f"not logarithmic). {where_counts_are(adata)}"
        )
    return scale


def where_counts_are(adata: AnnData) -> str:
    """Sentence that names the places of an AnnData that hold counts."""
    places = {"adata.X": adata.X, **{f"layer={key!r}": adata.layers[key] for key in adata.layers if key is not None}}
    if adata.raw is not None:
        places["use_raw=True"] = adata.raw.X
    found = [name for name, matrix in places.items() if matrix is not None and _holds_counts(matrix)]
    if not found:
        return "No layer nor raw of this AnnData holds counts."
    return "Counts are in: " + ", ".join(found) + "."


def _holds_counts(matrix: Any) -> bool:
    sample = RowReader(matrix).sample(_CELLS_FOR_SCALE)
    return check_values(sample) is None and infer_scale(sample) == Scale("counts")


def linear_expression(adata: AnnData, *, layer: str | None = None, use_raw: bool = False) -> sp.csr_matrix:
    """Counts of an AnnData, or its values on the linear scale where counts cannot be recovered.

    Parameters
    ----------
    adata
        Cells, with counts or log-normalised values.
    layer, use_raw
        Where the values are, as in :meth:`~scgenemamba.GeneMambaModel.setup_anndata`.

    Returns
    -------
    CSR matrix of float64, shape ``(n_cells, n_features)``.
    """
    reader = RowReader(expression_of(adata, layer, use_raw)[0])
    return counts_from(reader(np.arange(reader.n_rows)), scale_of(adata, reader))
