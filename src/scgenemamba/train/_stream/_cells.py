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
    from ._order import Blocks, CellOrder, Mixed
    from ._runs import Run


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
    position
        Epoch and batch that come after the batches handed out so far.
    waited
        Seconds that were spent here while a batch was wanted.
    """

    def __init__(self, sources: list[Source], tokenizer: RankTokenizer, order: CellOrder) -> None:
        super().__init__()
        self.sources, self.tokenizer, self.order = sources, tokenizer, order
        self.epoch = self.first_batch = 0
        self.position = (0, 0)
        self.waited = 0.0

    def __len__(self) -> int:
        return self.order.n_batches

    def __iter__(self) -> Iterator[CellBatch]:
        """Batches from :attr:`first_batch` of :attr:`epoch` on."""
        epoch, first_batch = self.epoch, self.first_batch
        self.epoch, self.first_batch = epoch + 1, 0
        asked = time.perf_counter()
        number = first_batch
        sizes = iter(self.order.batch_sizes(epoch)[first_batch:].tolist())
        size, waiting = next(sizes, 0), None
        # the next cells are read while these are learnt from
        for cells in read_ahead(self._mixed(epoch, first_batch), 1):
            waiting = cells if waiting is None else _Cells.joined([waiting, cells])
            start = 0
            # sizes of zero would never end
            while size and len(waiting) - start >= size:
                batch = waiting[start : start + size].batch()
                number += 1
                self.position = (epoch, number) if number < len(self) else (epoch + 1, 0)
                self.waited += time.perf_counter() - asked
                yield batch
                asked = time.perf_counter()
                start, size = start + size, next(sizes, 0)
            waiting = waiting[start:]

    def counts(self, blocks: Blocks) -> sp.csr_matrix:
        """Linear values of blocks in token space, CSR ``(n_cells, n_tokens)``."""
        n_tokens = len(self.tokenizer.factors)
        return sp.vstack([part.counts(n_tokens) for part in self._read(blocks)], format="csr")

    def _mixed(self, epoch: int, first_batch: int) -> Iterator[_Cells]:
        # and the ones after them are read while those are ranked
        for mixed, parts in read_ahead(self._parts(epoch, first_batch), 1):
            yield self._ranked(parts)[mixed.order[mixed.skipped :]]

    def _parts(self, epoch: int, first_batch: int) -> Iterator[tuple[Mixed, list[_Part]]]:
        for mixed in self.order.mixed(epoch, first_batch):
            yield mixed, self._read(mixed.blocks)

    def _read(self, blocks: Blocks) -> list[_Part]:
        runs = zip(blocks.file.tolist(), blocks.first.tolist(), blocks.size.tolist(), strict=True)
        by_file = [
            (self.sources[file], [(first, size) for _, first, size in group])
            for file, group in groupby(runs, key=lambda run: run[0])
        ]
        values = read_together([source.file.reading(runs_of_file) for source, runs_of_file in by_file])
        return [_Part(*of_file, read) for of_file, read in zip(by_file, values, strict=True)]

    def _ranked(self, parts: list[_Part]) -> _Cells:
        n_tokens = len(self.tokenizer.factors)
        ranked = self.tokenizer(sp.vstack([part.counts(n_tokens) for part in parts], format="csr"))
        numbers = np.concatenate([part.numbers for part in parts])
        return _Cells(ranked.tokens, ranked.cu_seqlens, numbers)


@dataclass(frozen=True, eq=False)
class _Part:
    """Runs of cells of one file, and their values as they are there."""

    source: Source
    runs: list[Run]
    values: sp.csr_matrix

    def counts(self, n_tokens: int) -> sp.csr_matrix:
        """Linear values in token space."""
        return to_token_space(counts_from(self.values, self.source.scale), self.source.token_ids, n_tokens)

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Numbers of the cells among those of all files."""
        return np.concatenate([self.source.first_cell + first + np.arange(size) for first, size in self.runs])


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
