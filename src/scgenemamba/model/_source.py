"""Where expression values lie in an AnnData, and reading their rows whatever the layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from anndata.abc import CSCDataset, CSRDataset

from scgenemamba._logging import logger

from ._constants import CELLS_PER_CHUNK

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def expression_of(adata: AnnData, layer: str | None, use_raw: bool) -> tuple[Any, pd.DataFrame]:
    """The matrix that holds the expression values, and the table of its features.

    Returns
    -------
    Matrix of shape ``(n_cells, n_features)`` (dense, sparse or backed) and a table of ``n_features`` rows.

    Raises
    ------
    ValueError
        If both a layer and raw are asked for, or the place asked for does not exist.
    """
    if use_raw:
        if layer is not None:
            msg = "Give either `layer` or `use_raw=True`, not both."
            raise ValueError(msg)
        if adata.raw is None:
            msg = "`use_raw=True`, but adata.raw is None. Set up with `use_raw=False`, or with `layer=`."
            raise ValueError(msg)
        return adata.raw.X, adata.raw.var
    if layer is None:
        if adata.X is None:
            msg = f"adata.X is None. Name the layer that holds counts: `layer=` one of {list(adata.layers)}."
            raise ValueError(msg)
        return adata.X, adata.var
    if layer not in adata.layers:
        msg = f"Layer {layer!r} not found in adata.layers; it has {[key for key in adata.layers if key is not None]}."
        raise ValueError(msg)
    return adata.layers[layer], adata.var


class RowReader:
    """Rows of an expression matrix as CSR, in the order asked for.

    Parameters
    ----------
    matrix
        Dense array, any SciPy sparse matrix or array, or a backed dataset, shape ``(n_cells, n_features)``.

    Raises
    ------
    TypeError
        If the matrix is of another kind.
    """

    def __init__(self, matrix: Any) -> None:
        if isinstance(matrix, CSCDataset):
            # rows of a column-compressed file would each read the whole file
            logger.info("The backed matrix is stored by columns (CSC): it is read into memory.")
            matrix = matrix.to_memory()
        if sp.issparse(matrix):
            matrix = sp.csr_matrix(matrix)
        elif not isinstance(matrix, np.ndarray | h5py.Dataset | CSRDataset):
            matrix = np.asarray(matrix)
            if matrix.dtype == object:
                msg = "Expression values must be a NumPy array, a SciPy sparse matrix or a backed dataset."
                raise TypeError(msg)
        self._matrix = matrix
        self.n_rows: int = matrix.shape[0]

    def __call__(self, rows: npt.NDArray[np.integer]) -> sp.csr_matrix:
        """CSR matrix of the given rows, in their order, repeats included."""
        rows = np.asarray(rows)
        if isinstance(self._matrix, h5py.Dataset | CSRDataset):
            # files are read in ascending order, each row once
            unique, inverse = np.unique(rows, return_inverse=True)
            return sp.csr_matrix(self._matrix[unique])[inverse]
        return sp.csr_matrix(self._matrix[rows])

    def chunks(self) -> Iterator[tuple[npt.NDArray[np.int64], sp.csr_matrix]]:
        """Row numbers and values of consecutive pieces, bounded in memory."""
        for start in range(0, self.n_rows, CELLS_PER_CHUNK):
            end = min(start + CELLS_PER_CHUNK, self.n_rows)
            yield np.arange(start, end), sp.csr_matrix(self._matrix[start:end])

    def sample(self, n_cells: int) -> sp.csr_matrix:
        """At most ``n_cells`` rows, evenly spread."""
        return self(spread(self.n_rows, n_cells))


def spread(n_rows: int, n_cells: int) -> npt.NDArray[np.int64]:
    """At most ``n_cells`` row numbers, evenly spread over ``n_rows``."""
    return (
        np.unique(np.linspace(0, max(n_rows - 1, 0), min(n_rows, n_cells)).astype(np.int64)) if n_rows else np.arange(0)
    )
