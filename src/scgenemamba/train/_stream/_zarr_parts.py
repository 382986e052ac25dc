"""Reading many small parts of zarr arrays in one go, which zarr has no public function for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def is_zarr(array: Any) -> bool:
    """Whether it is an array of zarr, not of h5py."""
    return hasattr(array, "async_array")


def read_parts(wanted: Sequence[tuple[Any, list[slice]]]) -> list[npt.NDArray[Any]]:
    """Parts of the first axis of several zarr arrays, those of each array end to end."""
    if not wanted:
        return []
    from zarr.core.sync import sync

    return sync(_read_all(wanted))


async def _read_all(wanted: Sequence[tuple[Any, list[slice]]]) -> list[npt.NDArray[Any]]:
    return await asyncio.gather(*(_read(array.async_array, parts) for array, parts in wanted))


async def _read(array: Any, parts: list[slice]) -> npt.NDArray[Any]:
    if len(parts) > 1 and (indexer := _indexer(array, parts)) is not None:
        from zarr.core.buffer import default_buffer_prototype

        return await array._get_selection(indexer, prototype=default_buffer_prototype())
    return np.concatenate(await asyncio.gather(*(array.getitem(part) for part in parts)))


def _indexer(array: Any, parts: list[slice]) -> Any:
    """What makes zarr read all parts at once, ``None`` if its insides are not as they were."""
    try:
        from zarr.core.indexing import BasicIndexer

        grid = array._chunk_grid if hasattr(array, "_chunk_grid") else array.metadata.chunk_grid
        return _Joined([BasicIndexer((part,), array.shape, grid) for part in parts])
    except (ImportError, AttributeError, TypeError):
        return None


class _Joined:
    """Indexers one after the other, as one indexer of zarr; annbatch does the same.

    Parameters
    ----------
    indexers
        Of parts of the first axis.
    """

    drop_axes: tuple[int, ...] = ()

    def __init__(self, indexers: list[Any]) -> None:
        self._indexers = indexers
        self.shape = sum(indexer.shape[0] for indexer in indexers), *indexers[0].shape[1:]

    def __iter__(self) -> Iterator[Any]:
        start = 0
        for indexer in self._indexers:
            for projection in indexer:
                first, *others = projection.out_selection
                size = first.stop - first.start
                yield projection._replace(out_selection=(slice(start, start + size), *others))
                start += size
