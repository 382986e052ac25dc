"""Cutting a ragged batch into padded pieces of cells of similar length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ._layout import Padded


class _TakeOnce(torch.autograd.Function):
    """Rows at an index without repetitions, so that the gradient is copied and not accumulated."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.n_rows = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.n_rows, *grad.shape[1:]).index_copy(0, index, grad), None


@dataclass(frozen=True, eq=False)
class Pieces:
    """Where the padded rows of all pieces come from, and where each token went.

    Attributes
    ----------
    source
        Token of each padded row, int64 ``(r,)``; padding repeats the last token of its cell.
    position
        Padded row of each token, int64 ``(t,)``.
    layouts
        Layout of each piece.
    """

    source: torch.Tensor
    position: torch.Tensor
    layouts: tuple[Padded, ...]

    def split(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Cut rows ``(r, d)`` into the pieces, ``(b, l, d)`` each."""
        shapes = [(len(layout.lengths), layout.max_length) for layout in self.layouts]
        parts = rows.split([n_cells * width for n_cells, width in shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]

    def join(self, pieces: Sequence[torch.Tensor]) -> torch.Tensor:
        """Put pieces ``(b, l, d)`` back into the order of the tokens, ``(t, d)``."""
        return _TakeOnce.apply(torch.cat([piece.flatten(0, 1) for piece in pieces]), self.position)


def cut_into_pieces(cu_seqlens: torch.Tensor, piece_tokens: int) -> Pieces:
    """Sort cells by length and cut them into pieces of about equal size.

    Parameters
    ----------
    cu_seqlens
        Where the cells begin and end, ``(n + 1,)``; cells without tokens are in no piece.
    piece_tokens
        Largest number of padded tokens in a piece; a longer cell is a piece of its own.
    """
    device = cu_seqlens.device
    lengths = cu_seqlens.diff()
    sizes, order = lengths.sort(descending=True, stable=True)
    sizes, order = sizes[sizes > 0], order[sizes > 0]
    counts, widths = _piece_shapes(sizes.tolist(), piece_tokens)
    layouts = [
        Padded(part, width, full=bool(part_sizes[-1] == width))
        for part, part_sizes, width in zip(sizes.split(counts), sizes.cpu().split(counts), widths, strict=True)
    ]
    row_width = torch.repeat_interleave(torch.tensor(widths), torch.tensor(counts)).to(device)
    cell = torch.repeat_interleave(torch.arange(len(order), device=device), row_width)
    row = torch.arange(len(cell), device=device)
    step = row - (row_width.cumsum(0) - row_width)[cell]
    is_token = step < sizes[cell]
    source = cu_seqlens[order][cell] + torch.minimum(step, sizes[cell] - 1)
    position = torch.empty(int(lengths.sum()), dtype=torch.int64, device=device)
    position[source[is_token]] = row[is_token]
    return Pieces(source, position, tuple(layouts))


def _piece_shapes(sizes: list[int], piece_tokens: int) -> tuple[list[int], list[int]]:
    """Cells in each piece, and their longest length, for cells in descending order of length."""
    counts: list[int] = []
    widths: list[int] = []
    done = 0
    while done < len(sizes):
        count = min(max(1, piece_tokens // sizes[done]), len(sizes) - done)
        counts.append(count)
        widths.append(sizes[done])
        done += count
    return counts, widths
