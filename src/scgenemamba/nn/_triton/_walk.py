"""How the kernels walk through the sequences of a batch: chunks, segments, and where each token stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class Walk:
    """Tables that tell each program its part of the batch; made once per batch, on its device.

    A sequence is cut into chunks, the unit of the matrix products, and into segments, the unit that one program
    walks through. What enters the later segments of a long sequence is found beforehand from pieces, which are smaller
    so that there are enough of them for all processors. All are counted from the end that a direction starts at.
    Tables are as long as they could need to be, so that nobody waits for the device to know their length; entries
    behind the end are of length zero.

    Parameters
    ----------
    starts, lengths
        First row and number of tokens of each sequence, int32 ``(n,)``.
    n_rows
        Rows of the batch, padding included.
    chunk
        Tokens of a chunk.
    segment, piece
        Tokens of a segment, a multiple of ``piece``, which is a multiple of ``chunk``.
    max_length
        Upper bound of the lengths.
    padded
        Whether rows may belong to no sequence.
    """

    starts: torch.Tensor
    lengths: torch.Tensor
    n_rows: int
    chunk: int
    segment: int
    piece: int
    max_length: int
    padded: bool

    @property
    def n_chunks(self) -> int:
        """Upper bound of the number of chunks."""
        return self.n_rows // self.chunk + len(self.starts)

    @property
    def n_segments(self) -> int:
        """Upper bound of the number of segments."""
        return self.n_rows // self.segment + len(self.starts) if self.has_long else len(self.starts)

    @property
    def n_pieces(self) -> int:
        """Upper bound of the number of pieces."""
        return self.n_rows // self.piece + len(self.starts)

    @property
    def has_long(self) -> bool:
        """Whether a sequence may have more than one segment."""
        return self.max_length > self.segment

    @cached_property
    def chunks(self) -> torch.Tensor:
        """Of each chunk: start and length of its sequence, and place of its first token, int32 ``(n_chunks, 3)``."""
        sequence, number, _ = self._cut(self.chunk, self.n_chunks)
        return self._table(sequence, number * self.chunk)

    @cached_property
    def segments(self) -> torch.Tensor:
        """Of each segment what :attr:`pieces` says of a piece; its own number is that of its first piece.

        The longest segments come first: long ones must not start last.
        """
        table = self._stretches(self.segment, self.n_segments)
        tokens = (table[:, 1] - table[:, 2]).clamp(max=self.segment)
        return table[tokens.argsort(descending=True, stable=True)].contiguous()

    @cached_property
    def pieces(self) -> torch.Tensor:
        """Of each piece, int32 ``(n_pieces, 7)``.

        Start and length of its sequence, place of its first token, number of its sequence's first chunk, numbers of its
        sequence's first and last piece, and its own number.
        """
        return self._stretches(self.piece, self.n_pieces)

    def _stretches(self, size: int, n: int) -> torch.Tensor:
        sequence, number, _ = self._cut(size, n)
        _, _, first_chunk = self._cut(self.chunk, self.n_chunks)
        _, _, first = self._cut(self.piece, self.n_pieces)
        owner, place = sequence.clamp(max=len(self.starts) - 1), number * size
        own = first[owner] + place // self.piece
        return self._table(sequence, place, first_chunk[owner], first[owner], first[owner + 1] - 1, own)

    @cached_property
    def places(self) -> torch.Tensor:
        """Tokens of its sequence before and after each row, int32 ``(2, n_rows)``; -1 at padding."""
        row = torch.arange(self.n_rows, device=self.starts.device, dtype=torch.int32)
        sequence = torch.searchsorted(self.starts, row, right=True) - 1
        before = row - self.starts[sequence]
        after = self.lengths[sequence] - 1 - before
        return torch.where(after < 0, -1, torch.stack([before, after]))

    def _cut(self, size: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sequence of each piece (their count behind the end), its number there, and the first piece of each."""
        first = F.pad(((self.lengths + size - 1) // size).cumsum(0), (1, 0))
        piece = torch.arange(n, device=first.device)
        # empty sequences own nothing: the last sequence that starts here is meant
        sequence = torch.searchsorted(first, piece, right=True) - 1
        return sequence, piece - first[sequence], first

    def _table(self, sequence: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
        starts, lengths = F.pad(self.starts, (0, 1)), F.pad(self.lengths, (0, 1))
        return torch.stack([starts[sequence], lengths[sequence], *columns], 1).int()
