"""Streamed cells for Lightning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from scgenemamba.tokens import RankTokenizer, Vocabulary

from ._cells import CellStream
from ._order import BLOCK_SIZE, Blocks, CellOrder

if TYPE_CHECKING:
    import scipy.sparse as sp

    from scgenemamba.tokens import CellBatch

    from ._survey import Survey


class CellStreamModule(pl.LightningDataModule):
    """Training and held-out cells of files, shared out over processes.

    Where training stands is saved in Lightning's checkpoints: a training that goes on from one sees the cells that it would
    have seen, in the same order, if as many processes take part.

    Parameters
    ----------
    found
        What the files hold, see :func:`survey`.
    validation
        Other files whose cells are for the validation only, by name, with the genes of ``found``.
    batch_size
        Cells of a step of each process.
    held_out
        Share of the cells that training does not see, in blocks of 64.
    max_tokens
        Genes of a cell that are yielded at most, ``None`` for all.
    seed
        Of what is held out, and of the order.

    Attributes
    ----------
    n_obs
        Cells that are trained on.
    validation_names
        Of the sets of cells that :meth:`val_dataloader` gives: ``""`` for the held-out cells, then those of ``validation``.
    registry
        What a model of the cells is made from, ``GeneMambaModel(registry=)``; set by
        :meth:`GeneMambaModel.setup_files <scgenemamba.GeneMambaModel.setup_files>`.
    """

    registry: dict[str, Any]

    def __init__(
        self,
        found: Survey,
        validation: Mapping[str, Survey] | None = None,
        *,
        batch_size: int = 128,
        held_out: float = 0.01,
        max_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            msg = f"batch_size must be at least 1, got {batch_size}."
            raise ValueError(msg)
        if not 0 <= held_out < 1:
            msg = f"held_out must be at least 0 and below 1, got {held_out}."
            raise ValueError(msg)
        super().__init__()
        self.found, self.batch_size, self.seed = found, batch_size, seed
        self.validation = dict(validation or {})
        blocks = Blocks.of_files([source.file.n_cells for source in found.sources])
        self._training, self._held_out = blocks.split(held_out, seed)
        factors = np.concatenate([np.full(Vocabulary.FIRST_GENE, np.nan), found.medians])
        self._tokenizer = RankTokenizer(factors, max_tokens=max_tokens)
        self._stream: CellStream | None = None
        # of a checkpoint, for the next training only
        self._position: tuple[int, int] | None = None

    @property
    def n_obs(self) -> int:
        """Cells that are trained on."""
        return self._training.n_cells

    @property
    def waited(self) -> float:
        """Seconds for which training has waited for cells in this epoch."""
        return 0.0 if self._stream is None else self._stream.waited

    def n_batches(self, n_processes: int = 1) -> int:
        """Batches of an epoch of each process."""
        return CellOrder(self._training, self.batch_size, world_size=n_processes).n_batches

    def train_dataloader(self) -> DataLoader[CellBatch]:
        """Batches of the next epoch, in a new order each time."""
        self._stream = self._stream_of(self._training)
        if self._position is not None:
            self._stream.epoch, self._stream.first_batch = self._stream.position = self._position
        elif self.trainer is not None:
            self._stream.epoch = self.trainer.current_epoch
        self._position = None
        return DataLoader(self._stream, batch_size=None)

    def val_dataloader(self) -> list[DataLoader[CellBatch]]:
        """Held-out cells, and those of each further set; the same in every epoch."""
        return [DataLoader(_Repeated(stream), batch_size=None) for stream in self._validation_streams()]

    @property
    def validation_names(self) -> list[str]:
        """Names of the sets that :meth:`val_dataloader` gives."""
        return [*([""] if len(self._held_out) else []), *self.validation]

    def sample(self, n_cells: int) -> CellStream:
        """Some cells that are trained on, about so many, whatever the epoch and the process."""
        order = CellOrder(self._some_blocks(n_cells), self.batch_size, self.seed)
        return CellStream(self.found.sources, self._tokenizer, order)

    def expression(self, n_cells: int) -> sp.csr_matrix:
        """Linear values of the same cells as of :meth:`sample`, in token space, CSR ``(n_cells, n_tokens)``."""
        return self.sample(n_cells).counts(self._some_blocks(n_cells))

    def _some_blocks(self, n_cells: int) -> Blocks:
        n_blocks = -(-n_cells // BLOCK_SIZE)
        chosen = np.random.default_rng(self.seed).permutation(len(self._training))[:n_blocks]
        return self._training[np.sort(chosen)]

    def state_dict(self) -> dict[str, int]:
        """Epoch and batch that come next, and what that numbering depends on."""
        # counted by the stream: after some restarts, Lightning's own count of batches is behind
        epoch, first_batch = (0, 0) if self._stream is None else self._stream.position
        return {"epoch": epoch, "first_batch": first_batch, **self._numbering()}

    def _numbering(self) -> dict[str, int]:
        world_size = 1 if self.trainer is None else self.trainer.world_size
        numbering = {"world_size": world_size, "batch_size": self.batch_size, "seed": self.seed}
        return {**numbering, "n_training_cells": self.n_obs}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where a checkpoint was written.

        Raises
        ------
        ValueError
            If its cells were not shared out as they are now, so that some would be seen twice and others never.
        """
        for name, now in self._numbering().items():
            if state_dict.get(name, now) != now:
                msg = f"The checkpoint was written with {name}={state_dict[name]}, now it is {now}: go on with the same, or start anew."
                raise ValueError(msg)
        self._position = int(state_dict["epoch"]), int(state_dict["first_batch"])

    def _validation_streams(self) -> Iterator[CellStream]:
        if len(self._held_out):
            yield self._stream_of(self._held_out, all_see_few=True)
        for found in self.validation.values():
            blocks = Blocks.of_files([source.file.n_cells for source in found.sources])
            yield self._stream_of(blocks, found, all_see_few=True)

    def _stream_of(self, blocks: Blocks, found: Survey | None = None, *, all_see_few: bool = False) -> CellStream:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        if all_see_few and len(blocks) < world_size:
            # too few to share out: the mean over processes stays what it is
            rank, world_size = 0, 1
        order = CellOrder(blocks, self.batch_size, self.seed, rank, world_size)
        return CellStream((found or self.found).sources, self._tokenizer, order)


class _Repeated(CellStream):
    """The same epoch each time."""

    def __init__(self, stream: CellStream) -> None:
        super().__init__(stream.sources, stream.tokenizer, stream.order)

    def __iter__(self) -> Any:
        self.epoch = 0
        return super().__iter__()
