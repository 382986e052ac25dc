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
    walks through. Both are counted from the end that a direction starts at. Tables are as long as they could need
    to be, so that nobody waits for the device to know their length; entries behind the end are of length zero.

    Parameters
    ----------
    starts, lengths
        First row and number of tokens of each sequence, int32 ``(n,)``.
    n_rows
        Rows of the batch, padding included.
    chunk
        Tokens of a chunk.
    segment
        Tokens of a segment, a multiple of ``chunk``.
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
        """Of each segment, int32 ``(n_segments, 7)``.

        Start and length of its sequence, place of its first token, number of its sequence's first chunk, numbers of its
        sequence's first and last segment, and its own number. The longest segments come first: long ones must not
        start last.
        """
        sequence, number, first = self._cut(self.segment, self.n_segments)
        _, _, first_chunk = self._cut(self.chunk, self.n_chunks)
        owner = sequence.clamp(max=len(self.starts) - 1)
        table = self._table(
            sequence,
            number * self.segment,
            first_chunk[owner],
            first[owner],
            first[owner + 1] - 1,
            torch.arange(self.n_segments, device=sequence.device),
        )
        tokens = (table[:, 1] - table[:, 2]).clamp(max=self.segment)
        return table[tokens.argsort(descending=True, stable=True)].contiguous()

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
