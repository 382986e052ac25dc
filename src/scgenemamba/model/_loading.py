"""Data loaders that tokenise the next batches while a GPU computes on the current one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from scvi import dataloaders

from scgenemamba.tokens import CellBatch
from scgenemamba.train import read_ahead


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
