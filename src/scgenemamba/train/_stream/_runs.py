"""Reading runs of rows of matrices on disk, those of several matrices together."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ._zarr_parts import is_zarr, read_parts

Run: TypeAlias = tuple[int, int]
"""First row, and number of rows."""
_Wanted: TypeAlias = list[tuple[Any, list[slice]]]
Reading: TypeAlias = Generator[_Wanted, list[npt.NDArray[Any]], sp.csr_matrix]
"""Yields the arrays that it needs parts of, is sent those parts end to end for each array, and returns the rows."""


class SparseRows:
    """Rows of a CSR matrix. anndata's own reading of a few rows takes longer for what surrounds it than for them.

    Parameters
    ----------
    group
        Group of an h5ad file or zarr store.
    """

    def __init__(self, group: Any) -> None:
        self._data, self._indices, self._indptr = group["data"], group["indices"], group["indptr"]
        n_rows, n_columns = group.attrs["shape"]
        self.shape = int(n_rows), int(n_columns)

    def reading(self, runs: Sequence[Run]) -> Reading:
        """CSR ``(n, n_columns)``."""
        (joined,) = yield [(self._indptr, [slice(first, first + size + 1) for first, size in runs])]
        bounds = np.split(joined, np.cumsum([size + 1 for _, size in runs])[:-1])
        parts = [slice(int(bound[0]), int(bound[-1])) for bound in bounds]
        data, indices = yield [(self._data, parts), (self._indices, parts)]
        indptr = np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(bound) for bound in bounds)]))
        return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, self.shape[1]))


class DenseRows:
    """Rows of a dense matrix.

    Parameters
    ----------
    array
        Array of an h5ad file or zarr store.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        n_rows, n_columns = array.shape
        self.shape = int(n_rows), int(n_columns)

    def reading(self, runs: Sequence[Run]) -> Reading:
        """CSR ``(n, n_columns)``."""
        (rows,) = yield [(self._array, [slice(first, first + size) for first, size in runs])]
        return sp.csr_matrix(rows)


def read_together(readings: Sequence[Reading]) -> list[sp.csr_matrix]:
    """Results of readings that take their steps together: a zarr store reads many small parts faster than one by one."""
    results: list[sp.csr_matrix] = [None] * len(readings)
    answers: dict[int, Any] = dict.fromkeys(range(len(readings)))
    while answers:
        wanted: dict[int, _Wanted] = {}
        for i, answer in answers.items():
            try:
                wanted[i] = readings[i].send(answer)
            except StopIteration as end:
                results[i] = end.value
        read = iter(_read([of_array for of_reading in wanted.values() for of_array in of_reading]))
        answers = {i: list(islice(read, len(of_reading))) for i, of_reading in wanted.items()}
    return results


def _read(wanted: _Wanted) -> list[npt.NDArray[Any]]:
    of_zarr = iter(read_parts([of_array for of_array in wanted if is_zarr(of_array[0])]))
    return [next(of_zarr) if is_zarr(array) else _of_h5ad(array, parts) for array, parts in wanted]


def _of_h5ad(array: Any, parts: list[slice]) -> npt.NDArray[Any]:
    try:
        return np.concatenate([array[part] for part in parts])
    except (OSError, RuntimeError) as error:
        # h5py says what is wrong, but not where
        msg = f"{array.file.filename} cannot be read: {error}"
        raise OSError(msg) from error
