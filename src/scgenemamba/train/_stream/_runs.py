"""Reading runs of rows of matrices on disk, those of several matrices together."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Run: TypeAlias = tuple[int, int]
"""First row, and number of rows."""
_Wanted: TypeAlias = list[tuple[Any, slice]]
Reading: TypeAlias = Generator[_Wanted, list[npt.NDArray[Any]], sp.csr_matrix]
"""Yields the parts of arrays that it needs, is sent them, and returns the rows."""


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
        bounds = yield [(self._indptr, slice(first, first + size + 1)) for first, size in runs]
        parts = [slice(int(bound[0]), int(bound[-1])) for bound in bounds]
        read = yield [(array, part) for array in (self._data, self._indices) for part in parts]
        data, indices = _joined(read[: len(runs)]), _joined(read[len(runs) :])
        indptr = np.cumsum(_joined([np.zeros(1, dtype=np.int64), *(np.diff(bound) for bound in bounds)]))
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
        return sp.csr_matrix(_joined((yield [(self._array, slice(first, first + size)) for first, size in runs])))


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
        read = iter(_read([part for parts in wanted.values() for part in parts]))
        answers = {i: list(islice(read, len(parts))) for i, parts in wanted.items()}
    return results


def _read(wanted: _Wanted) -> list[npt.NDArray[Any]]:
    if not any(_is_zarr(array) for array, _ in wanted):
        return [array[part] for array, part in wanted]
    from zarr.core.sync import sync

    # h5py has no asynchronous reading
    of_zarr = [part for part in wanted if _is_zarr(part[0])]
    read = iter(sync(_read_at_once(of_zarr)))
    return [next(read) if _is_zarr(array) else array[part] for array, part in wanted]


async def _read_at_once(wanted: _Wanted) -> list[npt.NDArray[Any]]:
    return await asyncio.gather(*(array.async_array.getitem(part) for array, part in wanted))


def _is_zarr(array: Any) -> bool:
    return hasattr(array, "async_array")


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
