"""Reading cells of h5ad and zarr files in runs, without ever holding a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from ._runs import DenseRows, Reading, Run, SparseRows, read_together
from ._zarr import open_folder, rust_codecs

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


class CellFile:
    """Expression values of one file, read from disk when asked for.

    The file is opened at the first reading, by each process for itself, so that it can be sent to other processes.

    Parameters
    ----------
    path
        An ``.h5ad`` file or a zarr folder of an AnnData, also one within a collection.
    layer
        Layer that holds the values, ``None`` for X.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no AnnData, has no such layer, no cells, or is stored by columns.
    """

    def __init__(self, path: str | Path, layer: str | None = None) -> None:
        self.path, self.layer = Path(path), layer
        self._opened: Any = None
        self._rows: SparseRows | DenseRows | None = None
        if not self.path.exists():
            msg = f"There is no file {self.path}."
            raise FileNotFoundError(msg)
        try:
            self.n_cells, self.n_genes = self._values.shape
            self._read("var")
        except (OSError, KeyError) as error:
            msg = f"{self.path} cannot be read as an AnnData: {error}"
            raise ValueError(msg) from error
        if not self.n_cells:
            msg = f"{self.path} holds no cells."
            raise ValueError(msg)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_rows": None}

    def __repr__(self) -> str:
        return f"CellFile({str(self.path)!r}): {self.n_cells} cells, {self.n_genes} features"

    def read(self, first: int, n_cells: int) -> sp.csr_matrix:
        """Values of consecutive cells, CSR ``(n_cells, n_genes)``."""
        return read_together([self.reading([(first, n_cells)])])[0]

    def reading(self, runs: Sequence[Run]) -> Reading:
        """Values of several runs of cells one after the other, for ``read_together``."""
        return self._values.reading([(first, min(size, self.n_cells - first)) for first, size in runs])

    def spread(self, n_cells: int, n_runs: int = 16) -> sp.csr_matrix:
        """At most ``n_cells`` cells, in runs that are spread evenly over the file."""
        if n_cells >= self.n_cells:
            return self.read(0, self.n_cells)
        size = -(-n_cells // n_runs)
        starts = np.linspace(0, self.n_cells - size, n_runs).astype(int)
        return read_together([self.reading([(int(start), size) for start in starts])])[0]

    def cell_names(self, rows: npt.NDArray[np.integer]) -> list[str]:
        """Names of some cells."""
        return self.obs.index[rows].astype(str).tolist()

    @property
    def obs(self) -> pd.DataFrame:
        """Annotation of the cells, read each time."""
        return self._read("obs")

    @property
    def var(self) -> pd.DataFrame:
        """Annotation of the features, read each time: kept for each of many files, it would fill the memory."""
        return self._read("var")

    @property
    def log_base(self) -> float | None:
        """Base of the logarithm that scanpy has recorded, ``None`` if nothing is recorded."""
        if "uns" not in self._group or "log1p" not in self._group["uns"]:
            return None
        base = self._read("uns/log1p").get("base")
        return float(np.e) if base is None else float(base)

    @property
    def _group(self) -> Any:
        if self._opened is None:
            if self.path.is_dir():
                self._opened = open_folder(self.path)
            else:
                import h5py

                self._opened = h5py.File(self.path, "r")
        return self._opened

    @property
    def _values(self) -> SparseRows | DenseRows:
        if self._rows is None:
            with rust_codecs():
                self._rows = self._open_values()
        return self._rows

    def _open_values(self) -> SparseRows | DenseRows:
        group = self._group
        name = "X" if self.layer is None else f"layers/{self.layer}"
        encoding = group[name].attrs.get("encoding-type", "array") if name in group else "null"
        if encoding == "null":
            has = list(group["layers"]) if "layers" in group else []
            msg = f"{self.path} has no {name}; its layers are {has}."
            raise ValueError(msg)
        if encoding == "csc_matrix":
            msg = (
                f"{self.path} stores its values by columns (CSC), and reading cells from it would read all of it each time. "
                "Write it anew by rows: `adata.X = adata.X.tocsr(); adata.write_h5ad(...)`."
            )
            raise ValueError(msg)
        return SparseRows(group[name]) if encoding == "csr_matrix" else DenseRows(group[name])

    def _read(self, name: str) -> Any:
        from anndata.io import read_elem

        return read_elem(self._group[name])
