"""Token batches of cells that lie in files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from torch.utils.data import IterableDataset

from scgenemamba.tokens import RankTokenizer, Scale, counts_from, to_tensors, to_token_space, values_of
from scgenemamba.train._read_ahead import read_ahead

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
    decoder_tokens
        Tokens whose values are yielded as well, int32 ``(g,)``; ``None`` for none.

    Attributes
    ----------
    epoch, first_batch
        Of the next iteration; iterating on starts the next epoch at its beginning.
    """

    def __init__(
        self,
        sources: list[Source],
        tokenizer: RankTokenizer,
        order: CellOrder,
        decoder_tokens: npt.NDArray[np.int32] | None = None,
    ) -> None:
        super().__init__()
        self.sources, self.tokenizer, self.order, self.decoder_tokens = sources, tokenizer, order, decoder_tokens
        self.epoch = self.first_batch = 0

    def __len__(self) -> int:
        return self.order.n_batches

    def __iter__(self) -> Iterator[CellBatch]:
        """Batches from :attr:`first_batch` of :attr:`epoch` on."""
        epoch, first_batch = self.epoch, self.first_batch
        self.epoch, self.first_batch = epoch + 1, 0
        sizes = iter(self.order.batch_sizes(epoch)[first_batch:].tolist())
        size, waiting = next(sizes, 0), None
        # the next cells are read while these are ranked: neither needs the interpreter
        for cells in read_ahead(self._mixed(epoch, first_batch), 1):
            waiting = cells if waiting is None else waiting.joined(cells)
            start = 0
            # sizes of zero would never end
            while size and len(waiting) - start >= size:
                yield self._batch(waiting[np.arange(start, start + size)])
                start, size = start + size, next(sizes, 0)
            waiting = waiting[np.arange(start, len(waiting))]

    def _mixed(self, epoch: int, first_batch: int) -> Iterator[_Cells]:
        for mixed in self.order.mixed(epoch, first_batch):
            yield self._read(mixed.blocks)[mixed.order[mixed.skipped :]]

    def _read(self, blocks: Blocks) -> _Cells:
        parts, numbers = [], []
        runs = zip(blocks.file.tolist(), blocks.first.tolist(), blocks.size.tolist(), strict=True)
        for file, group in groupby(runs, key=lambda run: run[0]):
            source, mine = self.sources[file], list(group)
            values = sp.vstack([source.counts(first, size) for _, first, size in mine], format="csr")
            parts.append(to_token_space(values, source.token_ids, len(self.tokenizer.factors)))
            numbers += [source.first_cell + first + np.arange(size) for _, first, size in mine]
        return _Cells(sp.vstack(parts, format="csr"), np.concatenate(numbers))

    def _batch(self, cells: _Cells) -> CellBatch:
        ranked = self.tokenizer(cells.counts)
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "tokens": ranked.tokens,
            "cu_seqlens": ranked.cu_seqlens,
            "cell": cells.numbers,
        }
        if self.decoder_tokens is not None:
            arrays["expression"] = values_of(cells.counts, self.decoder_tokens)
            arrays["total"] = np.asarray(cells.counts.sum(axis=1), dtype=np.float32)
        return to_tensors(arrays)


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cells in token space, and their numbers among those of all files."""

    counts: sp.csr_matrix
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> _Cells:
        return _Cells(self.counts[rows], self.numbers[rows])

    def joined(self, other: _Cells) -> _Cells:
        return _Cells(
            sp.vstack([self.counts, other.counts], format="csr"), np.concatenate([self.numbers, other.numbers])
        )
