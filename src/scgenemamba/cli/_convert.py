"""Writing the cells of many files, shuffled, into an annbatch collection."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    import numpy.typing as npt
    from anndata import AnnData

    from scgenemamba.train import CellFile

# annbatch reads and shuffles runs of so many cells
_RUN = 1_000
_CELLS_FOR_SCALE = 512
# a block of 64 cells lies across fewer cells that are decoded for nothing than with annbatch's 64
_CELLS_PER_CHUNK = 32
# of values and indices on the way
_BYTES_PER_VALUE = 8


@dataclass(frozen=True)
class ConvertRequest:
    """What was asked for on the command line.

    Attributes
    ----------
    files
        h5ad files, zarr folders, or collections.
    out
        The collection, a ``.zarr``.
    layer, gene_key
        Where values and gene names are.
    gigabytes
        Size of the values, in memory, of the cells that are shuffled together and become one data set.
    seed
        Of the order.
    overwrite
        Replace a collection that is there.
    """

    files: Sequence[Path]
    out: Path
    layer: str | None = None
    gene_key: str | None = None
    gigabytes: float = 2.0
    seed: int = 0
    overwrite: bool = False


def run_convert(request: ConvertRequest) -> None:
    """Write a collection, whole or not at all.

    Raises
    ------
    ImportError
        If annbatch is not installed.
    FileNotFoundError, FileExistsError, ValueError
        If an input is missing or cannot be used, or the result would replace something.
    """
    _check_annbatch()
    _check_paths(request)
    inputs = _inputs(request)
    n_cells = sum(one.file.n_cells for one in inputs)
    _say(f"{n_cells:,} cells in {len(inputs)} files.")
    partial = request.out.with_name(f".{request.out.stem}.partial.zarr")
    _remove(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(inputs, partial, request)
        if request.out.exists():
            _remove(request.out)
        os.replace(partial, request.out)
    finally:
        _remove(partial)
    _say(f"{_describe(request.out)} -> {request.out}")


@dataclass(frozen=True, eq=False)
class _Input:
    """A file, and the genes that its features count for.

    Attributes
    ----------
    file
        The file.
    genes
        Distinct gene names.
    columns
        Gene of each feature, -1 for none; features of one gene are summed.
    bytes_per_cell
        That the values take in memory.
    """

    file: CellFile
    genes: npt.NDArray[np.object_]
    columns: npt.NDArray[np.int64]
    bytes_per_cell: float

    def read(self, first: int, n_cells: int) -> sp.csr_matrix:
        """Values of consecutive cells, float32 CSR ``(n_cells, n_genes)``."""
        values = self.file.read(first, n_cells).astype(np.float32)
        if np.array_equal(self.columns, np.arange(len(self.genes))):
            return values
        used = np.flatnonzero(self.columns >= 0)
        parts = np.ones(len(used), dtype=np.float32), (used, self.columns[used])
        summed = values @ sp.csr_matrix(parts, shape=(self.file.n_genes, len(self.genes)))
        summed.sort_indices()
        return summed


def _check_annbatch() -> None:
    try:
        import annbatch  # noqa: F401
    except ImportError as error:
        msg = (
            'Collections are written by annbatch, which needs Python 3.12 or later: pip install "scgenemamba[annbatch]"'
        )
        raise ImportError(msg) from error


def _check_paths(request: ConvertRequest) -> None:
    missing = [str(path) for path in request.files if not path.exists()]
    if missing:
        msg = f"Not found: {', '.join(missing)}."
        raise FileNotFoundError(msg)
    out = request.out
    if out.suffix != ".zarr":
        msg = f"A collection is a folder whose name ends in .zarr, got --out {out}."
        raise ValueError(msg)
    for path in request.files:
        one, other = path.resolve(), out.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            msg = f"The result would change an input, {path}: choose another --out."
            raise ValueError(msg)
    if out.exists() and not request.overwrite:
        msg = f"{out} is there; --overwrite replaces it."
        raise FileExistsError(msg)


def _inputs(request: ConvertRequest) -> list[_Input]:
    from scgenemamba.tokens import gene_names, infer_scale
    from scgenemamba.train import CellFile, datasets_of

    inputs, scales = [], {}
    for path in datasets_of(request.files):
        file = CellFile(path, request.layer)
        try:
            names = gene_names(file.var, request.gene_key)
        except ValueError as error:
            msg = f"{path}: {error}"
            raise ValueError(msg) from error
        genes, columns = _distinct(names)
        sample = file.spread(_CELLS_FOR_SCALE)
        scales[str(path)] = infer_scale(sample, file.log_base)
        inputs.append(_Input(file, genes, columns, max(_BYTES_PER_VALUE * sample.nnz / sample.shape[0], 1.0)))
    for name, scale in scales.items():
        if scale is None or scale.kind != "counts":
            msg = (
                f"The values of {name} are no counts ({scale or 'of unknown scale'}). The files of a collection are mixed, so all of "
                "them must hold counts: name a layer that does (--layer), or train on the files as they are."
            )
            raise ValueError(msg)
    return inputs


def _distinct(names: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int64]]:
    """Distinct names in the order in which they come, without ``""``, and the number of each feature's."""
    number: dict[str, int] = {}
    columns = [number.setdefault(name, len(number)) if name else -1 for name in names]
    return np.array(list(number), dtype=object), np.array(columns, dtype=np.int64)


def _write(inputs: list[_Input], path: Path, request: ConvertRequest) -> None:
    from annbatch import DatasetCollection

    from scgenemamba.train import rust_codecs

    by_path = {str(one.file.path): one for one in inputs}
    n_cells = sum(one.file.n_cells for one in inputs)
    bytes_per_cell = sum(one.bytes_per_cell * one.file.n_cells for one in inputs) / n_cells
    with warnings.catch_warnings(), rust_codecs():
        # of zarr about a draft of its format, of annbatch about columns that a file lacks and names that it makes unique itself
        for known in ("Consolidated metadata", "Found obs keys", "Observation names are not unique"):
            warnings.filterwarnings("ignore", known)
        DatasetCollection(path).add_adatas(
            list(by_path),
            load_adata=lambda name: _lazy(by_path[name]),
            # with less, annbatch would put all cells into one data set
            dataset_size=max(int(request.gigabytes * 1e9 / bytes_per_cell), 2 * _RUN),
            n_obs_per_chunk=_CELLS_PER_CHUNK,
            shuffle_chunk_size=_RUN,
            rng=np.random.default_rng(request.seed),
        )


def _lazy(one: _Input) -> AnnData:
    """The cells of a file, whose values are read when they are asked for."""
    import dask.array as da
    import pandas as pd
    from anndata import AnnData

    file, shape = one.file, (one.file.n_cells, len(one.genes))
    sizes = [min(_RUN, shape[0] - first) for first in range(0, shape[0], _RUN)]

    def read(block_info: Any = None) -> sp.csr_matrix:
        first, end = block_info[None]["array-location"][0]
        return one.read(first, end - first)

    nothing = sp.csr_matrix((0, shape[1]), dtype=np.float32)
    values = da.map_blocks(read, chunks=(tuple(sizes), (shape[1],)), dtype=np.float32, meta=nothing)
    return AnnData(values, obs=file.obs, var=pd.DataFrame(index=one.genes))


def _describe(path: Path) -> str:
    from scgenemamba.train import CellFile, datasets_of

    files = [CellFile(dataset) for dataset in datasets_of([path])]
    return f"{sum(file.n_cells for file in files):,} cells, {files[0].n_genes:,} genes, {len(files)} data sets"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
