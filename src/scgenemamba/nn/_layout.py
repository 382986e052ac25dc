"""How the tokens of cells lie in memory: ragged, padded or packed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch

#: In which directions an encoder reads its cells.
Reading = Literal["both", "ahead", "back"]


class _OwnInverse(torch.autograd.Function):
    """Rows in another order, for orders that are their own inverse: the gradient is gathered, never scattered."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        return _OwnInverse.apply(grad, index), None


@dataclass(frozen=True, eq=False)
class Padded:
    """Sequences side by side, each filled up at its end: tensors are ``(b, l, ...)``.

    Parameters
    ----------
    lengths
        Tokens of each sequence, int ``(b,)``.
    max_length
        Width ``l`` of the padded tensors.
    full
        Whether every sequence has ``max_length`` tokens; found out if not given, which waits for a GPU.
    """

    lengths: torch.Tensor
    max_length: int
    full: bool | None = None

    def __post_init__(self) -> None:
        if self.full is None:
            object.__setattr__(self, "full", bool((self.lengths == self.max_length).all()))

    @cached_property
    def mask(self) -> torch.Tensor | None:
        """True at tokens and False at padding, bool ``(b, l)``; ``None`` if nothing is padded."""
        if self.full:
            return None
        return torch.arange(self.max_length, device=self.lengths.device) < self.lengths[:, None]

    @property
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """First row of each sequence, and its number of tokens, ``(b,)`` each."""
        return torch.arange(len(self.lengths), device=self.lengths.device) * self.max_length, self.lengths

    @property
    def seq_idx(self) -> None:
        """No row holds more than one sequence."""
        return None

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """View of ``(b, l, ...)`` as rows of a batch: itself."""
        return x

    def reverse(self, x: torch.Tensor) -> torch.Tensor:
        """Reverse each sequence ``(b, l, ...)`` and leave its padding in place; its own inverse."""
        if self.full:
            return x.flip(1)
        return _OwnInverse.apply(x.flatten(0, 1), self._reversal).view(x.shape)

    @cached_property
    def _reversal(self) -> torch.Tensor:
        position = torch.arange(self.max_length, device=self.lengths.device)
        lengths = self.lengths[:, None]
        index = torch.where(position < lengths, lengths - 1 - position, position)
        starts = torch.arange(len(self.lengths), device=index.device)[:, None] * self.max_length
        return (starts + index).flatten()


@dataclass(frozen=True, eq=False)
class Packed:
    """Sequences end to end: tensors are ``(t, ...)``.

    Parameters
    ----------
    cu_seqlens
        Where the sequences begin and end, int ``(n + 1,)``.
    longest
        Tokens of the longest sequence; found out if it is needed and not given, which waits for a GPU.
    """

    cu_seqlens: torch.Tensor
    longest: int | None = None

    @property
    def mask(self) -> None:
        """Nothing is padded."""
        return None

    @property
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """First row of each sequence, and its number of tokens, ``(n,)`` each."""
        return self.cu_seqlens[:-1], self.cu_seqlens.diff()

    @cached_property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""
        if self.longest is not None:
            return self.longest
        lengths = self.cu_seqlens.diff()
        return int(lengths.max()) if len(lengths) else 0

    @cached_property
    def seq_idx(self) -> torch.Tensor:
        """Sequence of each token, int ``(1, t)``."""
        return cell_of_token(self.cu_seqlens)[None]

    def rows(self, x: torch.Tensor) -> torch.Tensor:
        """View of ``(t, ...)`` as rows of a batch: ``(1, t, ...)``."""
        return x[None]

    def reverse(self, x: torch.Tensor) -> torch.Tensor:
        """Reverse each sequence of ``(t, ...)``; its own inverse."""
        return _OwnInverse.apply(x, self._reversal)

    @cached_property
    def _reversal(self) -> torch.Tensor:
        cell = self.seq_idx[0]
        position = torch.arange(len(cell), device=cell.device)
        return self.cu_seqlens[cell] + self.cu_seqlens[cell + 1] - 1 - position


Layout = Padded | Packed


def cell_of_token(cu_seqlens: torch.Tensor) -> torch.Tensor:
    """Cell of each token, int64 ``(t,)``, from ``cu_seqlens`` ``(n + 1,)``."""
    lengths = cu_seqlens.diff()
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)


def truncate(tokens: torch.Tensor, cu_seqlens: torch.Tensor, max_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the first tokens of each cell, the highest-ranked genes.

    Parameters
    ----------
    tokens
        Tokens of all cells end to end, ``(t,)``.
    cu_seqlens
        Where the cells begin and end, ``(n + 1,)``.
    max_tokens
        Tokens to keep of a cell.

    Returns
    -------
    The tokens left and their ``cu_seqlens``.
    """
    lengths = cu_seqlens.diff()
    position = torch.arange(len(tokens), device=tokens.device) - cu_seqlens[cell_of_token(cu_seqlens)]
    kept = torch.cat([cu_seqlens[:1], lengths.clamp(max=max_tokens).cumsum(0).to(cu_seqlens.dtype)])
    return tokens[position < max_tokens], kept


def pad(values: torch.Tensor, cu_seqlens: torch.Tensor) -> tuple[torch.Tensor, Padded]:
    """Turn ragged ``(t, ...)`` into padded ``(n, l, ...)`` filled with zeros, and its layout."""
    lengths = cu_seqlens.diff()
    layout = Padded(lengths, int(lengths.max()) if len(lengths) else 0)
    out = values.new_zeros(len(lengths), layout.max_length, *values.shape[1:])
    if layout.mask is None:
        return values.reshape(out.shape), layout
    return out.masked_scatter(layout.mask.view(*layout.mask.shape, *[1] * (values.ndim - 1)), values), layout


def unpad(values: torch.Tensor, layout: Padded) -> torch.Tensor:
    """Turn padded ``(n, l, ...)`` into ragged ``(t, ...)``."""
    return values.flatten(0, 1) if layout.mask is None else values[layout.mask]
