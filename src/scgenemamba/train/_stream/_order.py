"""In which order cells are read from files: shuffled, split over processes, and continued anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

_Indices = npt.NDArray[np.int64]

# Cells that are read in one go: a disk wants many, the mixing of cells few.
BLOCK_SIZE = 64
# Blocks whose cells are mixed, and held in memory, at a time.
_MIXED_BLOCKS = 64


@dataclass(frozen=True, eq=False)
class Blocks:
    """Runs of consecutive cells of files.

    Attributes
    ----------
    file
        Number of the file, int64 ``(b,)``.
    first
        First cell in its file, int64 ``(b,)``.
    size
        Number of cells, int64 ``(b,)``.
    """

    file: _Indices
    first: _Indices
    size: _Indices

    @classmethod
    def of_files(cls, n_cells: Sequence[int]) -> Blocks:
        """Blocks of all files, in order; the last of a file may be smaller."""
        starts = [np.arange(0, n, BLOCK_SIZE) for n in n_cells]
        sizes = [np.minimum(BLOCK_SIZE, n - start) for n, start in zip(n_cells, starts, strict=True)]
        file = np.repeat(np.arange(len(n_cells)), [len(start) for start in starts])
        return cls(file, *(np.concatenate([np.arange(0), *parts]).astype(np.int64) for parts in (starts, sizes)))

    def __len__(self) -> int:
        return len(self.file)

    def __getitem__(self, rows: _Indices | slice) -> Blocks:
        return Blocks(self.file[rows], self.first[rows], self.size[rows])

    @property
    def n_cells(self) -> int:
        """Cells of all blocks."""
        return int(self.size.sum())

    def split(self, share: float, seed: int) -> tuple[Blocks, Blocks]:
        """All but a share of the blocks, drawn at random, and that share: at least one block if the share is not zero."""
        n_held_out = min(max(round(share * len(self)), 1), len(self) - 1) if share > 0 and len(self) > 1 else 0
        order = np.random.default_rng(seed).permutation(len(self))
        return self[np.sort(order[n_held_out:])], self[np.sort(order[:n_held_out])]


@dataclass(frozen=True, eq=False)
class Mixed:
    """Blocks that are read together, and what becomes of their cells.

    Attributes
    ----------
    blocks
        Blocks, to be read in order.
    order
        Order of their cells, int64 ``(n,)``.
    skipped
        Cells of that order that belong to batches before the one asked for.
    """

    blocks: Blocks
    order: _Indices
    skipped: int


@dataclass(frozen=True)
class CellOrder:
    """Order of the cells of one process in each epoch.

    Blocks are shuffled and dealt out to the processes, and the cells of 64 blocks at a time, 4,096, are mixed. Each cell is
    seen once an epoch by one process, all processes have as many batches, and what a process does depends on nothing but
    the seed, the epoch and its number.

    Parameters
    ----------
    blocks
        Cells.
    batch_size
        Cells of a batch of a process, in general; the cells are shared out evenly, so it may be a little less or more.
    seed
        Of the shuffling.
    rank, world_size
        Number of this process, and how many there are.

    Raises
    ------
    ValueError
        If there are fewer blocks than processes.
    """

    blocks: Blocks
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if len(self.blocks) < self.world_size:
            msg = (
                f"{self.blocks.n_cells} cells cannot be shared out to {self.world_size} processes: that takes "
                f"{self.world_size * BLOCK_SIZE}."
            )
            raise ValueError(msg)

    @cached_property
    def n_batches(self) -> int:
        """Batches of an epoch, the same for all processes."""
        return -(-self.blocks.n_cells // (self.batch_size * self.world_size))

    def batch_sizes(self, epoch: int) -> _Indices:
        """Cells of each batch of this process, int64 ``(n_batches,)``."""
        n_cells = int(self.blocks.size[self._dealt(epoch)].sum())
        return np.diff(np.arange(self.n_batches + 1) * n_cells // self.n_batches)

    def mixed(self, epoch: int, first_batch: int = 0) -> Iterator[Mixed]:
        """What is to be read for the batches from ``first_batch`` on."""
        dealt = self._dealt(epoch)
        consumed = int(self.batch_sizes(epoch)[:first_batch].sum())
        for part, start in enumerate(range(0, len(dealt), _MIXED_BLOCKS)):
            # files are read from front to back; the order of the cells is drawn anyway
            blocks = self.blocks[np.sort(dealt[start : start + _MIXED_BLOCKS])]
            skipped = min(consumed, blocks.n_cells)
            consumed -= skipped
            if skipped < blocks.n_cells:
                order = self._generator(epoch, self.rank + 1, part).permutation(blocks.n_cells)
                yield Mixed(blocks, order, skipped)

    def _dealt(self, epoch: int) -> _Indices:
        order = self._generator(epoch, 0).permutation(len(self.blocks))
        return order[self.rank :: self.world_size]

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])
