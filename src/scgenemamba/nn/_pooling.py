"""From hidden states of tokens to one vector per cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ._layout import cell_of_token


class Pooling(nn.Module):
    """Poolings of each cell's hidden states, joined end to end; an empty cell gives zeros.

    Parameters
    ----------
    names
        Any of ``"mean"``, ``"max"`` (over the tokens kept) and ``"cls"`` (the first token).
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)

    def output_dim(self, d_model: int) -> int:
        """Width of the output for hidden states of width ``d_model``."""
        return d_model * len(self.names)

    def forward(self, hidden: torch.Tensor, cu_seqlens: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Pool each cell.

        Parameters
        ----------
        hidden
            Hidden states of all cells end to end, ``(t, d)``.
        cu_seqlens
            Where the cells begin and end, ``(n + 1,)``.
        keep
            Tokens that take part in mean and max, bool ``(t,)``.

        Returns
        -------
        ``(n, d * len(names))``, float32 or better.
        """
        hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        kept, lengths = hidden, cu_seqlens.diff()
        if keep is not None:
            counts = torch.zeros_like(lengths).index_add_(0, cell_of_token(cu_seqlens), keep.to(lengths.dtype))
            kept, lengths = hidden[keep], counts
        pooled = {"cls": lambda: _first(hidden, cu_seqlens), "mean": lambda: _mean(kept, lengths)}
        pooled["max"] = lambda: _max(kept, lengths)
        return torch.cat([pooled[name]() for name in self.names], dim=-1)


def _mean(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    sums = torch.segment_reduce(hidden, "sum", lengths=lengths, axis=0, unsafe=True, initial=0)
    return sums / lengths.clamp(min=1).unsqueeze(-1)


def _max(hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    largest = torch.segment_reduce(hidden, "max", lengths=lengths, axis=0, unsafe=True)
    return torch.where((lengths > 0).unsqueeze(-1), largest, 0.0)


def _first(hidden: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
    starts = cu_seqlens[:-1]
    nonempty = cu_seqlens.diff() > 0
    out = hidden.new_zeros(len(starts), hidden.shape[1])
    out[nonempty] = hidden[starts[nonempty]]
    return out
