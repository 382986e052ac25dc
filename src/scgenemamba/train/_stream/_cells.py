"""Token batches of cells that lie in files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from torch.utils.data import IterableDataset

from scgenemamba.tokens import RankTokenizer, Scale, counts_from, to_tensors, to_token_space
from scgenemamba.train._read_ahead import read_ahead

from ._runs import read_together

if TYPE_CHECKING:
    from scgenemamba.tokens import CellBatch

    from ._files import CellFile
    from ._order import Blocks, CellOrder


@dataclass(frozen=True, eq=False)
class Source:
    """A file, and how its values become tokens.

    Attributes
    ----------
    file
        The file.
    token_ids
        Token of each feature, int32 ``(n_genes,)``, -1 for none.
    scale
        What its values are.
    first_cell
        Number of its first cell among those of all files.
    """

    file: CellFile
    token_ids: npt.NDArray[np.int32]
    scale: Scale
    first_cell: int

    def counts(self, first: int, n_cells: int) -> sp.csr_matrix:
        """Values of consecutive cells, linear, still in the file's columns."""
        return counts_from(self.file.read(first, n_cells), self.scale)


class CellStream(IterableDataset):
    """Ragged token batches of the cells of files, read once an epoch and never held.

    Parameters
    ----------
    sources
        Files, in the order of the blocks' numbers.
    tokenizer
        Ranks the genes.
    order
        Which cells come when.

    Attributes
    ----------
    epoch, first_batch
        Of the next iteration; iterating on starts the next epoch at its beginning.
    waited
        Seconds that were spent here while a batch was wanted.
    """

    def __init__(self, sources: list[Source], tokenizer: RankTokenizer, order: CellOrder) -> None:
        super().__init__()
        self.sources, self.tokenizer, self.order = sources, tokenizer, order
        self.epoch = self.first_batch = 0
        self.waited = 0.0

    def __len__(self) -> int:
        return self.order.n_batches

    def __iter__(self) -> Iterator[CellBatch]:
        """Batches from :attr:`first_batch` of :attr:`epoch` on."""
        epoch, first_batch = self.epoch, self.first_batch
        self.epoch, self.first_batch = epoch + 1, 0
        asked = time.perf_counter()
        sizes = iter(self.order.batch_sizes(epoch)[first_batch:].tolist())
        size, waiting = next(sizes, 0), None
        # the next cells are read while these are learnt from
        for cells in read_ahead(self._mixed(epoch, first_batch), 1):
            waiting = cells if waiting is None else _Cells.joined([waiting, cells])
            start = 0
            # sizes of zero would never end
            while size and len(waiting) - start >= size:
                batch = waiting[start : start + size].batch()
                self.waited += time.perf_counter() - asked
                yield batch
                asked = time.perf_counter()
                start, size = start + size, next(sizes, 0)
            waiting = waiting[start:]

    def _mixed(self, epoch: int, first_batch: int) -> Iterator[_Cells]:
        for mixed in self.order.mixed(epoch, first_batch):
            yield self._read(mixed.blocks)[mixed.order[mixed.skipped :]]

    def _read(self, blocks: Blocks) -> _Cells:
        runs = zip(blocks.file.tolist(), blocks.first.tolist(), blocks.size.tolist(), strict=True)
        by_file = [
            (self.sources[file], [(first, size) for _, first, size in group])
            for file, group in groupby(runs, key=lambda run: run[0])
        ]
        read = read_together([source.file.reading(runs) for source, runs in by_file])
        n_tokens, counts, numbers = len(self.tokenizer.factors), [], []
        for values, (source, runs_of_file) in zip(read, by_file, strict=True):
            counts.append(to_token_space(counts_from(values, source.scale), source.token_ids, n_tokens))
            numbers += [source.first_cell + first + np.arange(size) for first, size in runs_of_file]
        ranked = self.tokenizer(sp.vstack(counts, format="csr"))
        return _Cells(ranked.tokens, ranked.cu_seqlens, np.concatenate(numbers))


@dataclass(frozen=True, eq=False)
class _Cells:
    """Ranked cells end to end, and their numbers among those of all files."""

    tokens: npt.NDArray[np.int32]
    cu_seqlens: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> _Cells:
        lengths = np.diff(self.cu_seqlens)[rows]
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
        moved = np.repeat(self.cu_seqlens[:-1][rows] - cu_seqlens[:-1], lengths)
        tokens = self.tokens[moved + np.arange(len(moved))]
        return _Cells(tokens, cu_seqlens, self.numbers[rows])

    def batch(self) -> CellBatch:
        """As tensors."""
        return to_tensors({"tokens": self.tokens, "cu_seqlens": self.cu_seqlens, "cell": self.numbers})

    @classmethod
    def joined(cls, parts: list[_Cells]) -> _Cells:
        """Cells of all parts, one after the other."""
        ends = np.cumsum([0, *(len(part.tokens) for part in parts)])
        bounds = [part.cu_seqlens[1:] + end for part, end in zip(parts, ends, strict=False)]
        tokens, numbers = (np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens", "numbers"))
        return cls(tokens, np.concatenate([[0], *bounds]), numbers)
