"""Data loaders that tokenise the next batches while a GPU computes on the current one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

import torch
from scvi import dataloaders

from scgenemamba.tokens import CellBatch

Batch = TypeVar("Batch")

# one is enough on average, the others make up for batches that take longer
_BATCHES_AHEAD = 3


def read_ahead(batches: Iterator[Batch], n_ahead: int = _BATCHES_AHEAD) -> Iterator[Batch]:
    """The same batches, of which a thread reads up to ``n_ahead`` before they are asked for.

    Errors are raised where the batch is asked for. The thread ends with the iterator, also when it is left early.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as thread:
        waiting = deque(thread.submit(next, batches, end) for _ in range(n_ahead))
        try:
            while (batch := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, batches, end))
                yield batch  # type: ignore[misc]
        finally:
            for future in waiting:
                future.cancel()


class CellLoader(dataloaders.AnnDataLoader):
    """Data loader of scvi-tools that reads ahead for a GPU, into pinned memory.

    A thread is enough, since ranking runs without the GIL, and it needs no copy of the cells. On a CPU it would take
    the cores from the computation.

    Parameters
    ----------
    *args, **kwargs
        Arguments of :class:`~scvi.dataloaders.AnnDataLoader`.
    device
        Where the batches are used, ``None`` for the CPU.
    """

    def __init__(self, *args: Any, device: torch.device | None = None, **kwargs: Any) -> None:
        kind = "cpu" if device is None else device.type
        if kind == "cuda":
            kwargs["pin_memory"] = True
        super().__init__(*args, **kwargs)
        # worker processes, where asked for, read ahead themselves
        self._reads_ahead = kind != "cpu" and self.num_workers == 0

    def __iter__(self) -> Any:
        """Batches, in the order of the sampler."""
        batches = super().__iter__()
        return self._ahead(batches) if self._reads_ahead else batches

    @staticmethod
    def _ahead(batches: Iterator[CellBatch]) -> Iterator[CellBatch]:
        # the sampler draws its seed at the first batch: in a thread, any random number could come before it
        first = next(batches, None)
        if first is not None:
            yield from read_ahead(chain([first], batches))


# by this name, scvi-tools refuses early stopping without validation cells
class DataSplitter(dataloaders.DataSplitter):
    """Data splitter of scvi-tools whose loaders know the device of the training."""

    data_loader_cls = CellLoader

    def setup(self, stage: str | None = None) -> None:
        """Split the cells, and ask the trainer for its device."""
        super().setup(stage)
        if self.trainer is not None:
            self.data_loader_kwargs["device"] = self.trainer.strategy.root_device
