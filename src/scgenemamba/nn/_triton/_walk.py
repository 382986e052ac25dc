"""How the kernels walk through the sequences of a batch: chunks, segments, and where each token stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch


@dataclass(frozen=True, eq=False)
class Walk:
    """Tables that tell each program its part of the batch; made once per batch, on its device.

    A sequence is cut into chunks, the unit of the matrix products, and into segments, the unit that one program
    walks through. Both are counted from the end that a direction starts at. Tables are as long as they could need
    to be, so that nobody waits for the device to know their length; entries beyond the end name sequence ``n``.

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
        if not self.has_long:
            return len(self.starts)
        return self.n_rows // self.segment + len(self.starts)

    @property
    def has_long(self) -> bool:
        """Whether a sequence may have more than one segment."""
        return self.max_length > self.segment

    @cached_property
    def first_chunk(self) -> torch.Tensor:
        """Number of the first chunk of each sequence, int32 ``(n + 1,)``."""
        return _cumulated(self.lengths, self.chunk)

    @cached_property
    def first_segment(self) -> torch.Tensor:
        """Number of the first segment of each sequence, int32 ``(n + 1,)``."""
        return _cumulated(self.lengths, self.segment)

    @cached_property
    def chunk_sequence(self) -> torch.Tensor:
        """Sequence of each chunk, int32 ``(n_chunks,)``."""
        return _owner(self.first_chunk, self.n_chunks)

    @cached_property
    def segment_sequence(self) -> torch.Tensor:
        """Sequence of each segment, int32 ``(n_segments,)``."""
        return _owner(self.first_segment, self.n_segments)

    @cached_property
    def order(self) -> torch.Tensor:
        """Segments from the longest to the shortest, int32 ``(n_segments,)``: long ones must not start last."""
        sequence = self.segment_sequence.long().clamp(max=len(self.starts) - 1)
        number = torch.arange(self.n_segments, device=sequence.device) - self.first_segment[sequence]
        tokens = (self.lengths[sequence] - number * self.segment).clamp(max=self.segment)
        return tokens.argsort(descending=True, stable=True).int()

    @cached_property
    def before(self) -> torch.Tensor:
        """Tokens of the same sequence before each row, int32 ``(n_rows,)``; -1 at padding."""
        return self._places[0]

    @cached_property
    def after(self) -> torch.Tensor:
        """Tokens of the same sequence after each row, int32 ``(n_rows,)``; -1 at padding."""
        return self._places[1]

    @cached_property
    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        row = torch.arange(self.n_rows, device=self.starts.device, dtype=torch.int32)
        sequence = torch.searchsorted(self.starts, row, right=True) - 1
        before = row - self.starts[sequence]
        after = self.lengths[sequence] - 1 - before
        return torch.where(after < 0, -1, before), torch.where(after < 0, -1, after)


def _cumulated(lengths: torch.Tensor, size: int) -> torch.Tensor:
    counts = (lengths + size - 1) // size
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()


def _owner(first: torch.Tensor, n: int) -> torch.Tensor:
    number = torch.arange(n, device=first.device, dtype=torch.int32)
    # empty sequences own nothing: the last sequence that starts here is meant
    return (torch.searchsorted(first, number, right=True) - 1).int()
