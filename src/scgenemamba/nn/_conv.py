"""Depthwise causal convolution and SiLU, in the layout of the projections."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def causal_conv_silu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    seq_idx: torch.Tensor | None = None,
    reverse: bool = False,
) -> torch.Tensor:
    """Depthwise convolution of each token with those before it, and SiLU.

    Parameters
    ----------
    x
        Input, ``(b, l, c)``.
    weight
        Taps as :class:`torch.nn.Conv1d` keeps them, the last one at the token itself, ``(c, 1, k)``.
    bias
        ``(c,)``.
    seq_idx
        Sequence of each token, ``(b, l)``; no sequence reads another.
    reverse
        Read the tokens after each token instead, as if the sequences were reversed.

    Returns
    -------
    ``(b, l, c)``
    """
    # rows, since arithmetic with a strided vector is several times slower
    taps = weight[:, 0].mT.contiguous().to(x.dtype)
    return _ConvSilu.apply(x, taps, bias.to(x.dtype), seq_idx, reverse)


class _ConvSilu(torch.autograd.Function):
    """Keeps its input only, a view of the projections; the convolution is computed again for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor, seq_idx: torch.Tensor | None, reverse: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(x, taps, bias)
        ctx.seq_idx, ctx.reverse = seq_idx, reverse
        return F.silu(_convolve(x, taps, bias, seq_idx, reverse), inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, taps, bias = ctx.saved_tensors
        grad = torch.ops.aten.silu_backward(grad, _convolve(x, taps, bias, ctx.seq_idx, ctx.reverse))
        d_x = grad * taps[-1]
        products = torch.mul(grad, x)
        d_taps = torch.empty_like(taps)
        d_taps[-1] = products.sum((0, 1))
        for shift in range(1, len(taps)):
            source, target = _shifted(shift, ctx.reverse)
            part = _within(grad[:, target], ctx.seq_idx, source, target)
            d_x[:, source].addcmul_(part, taps[-1 - shift])
            torch.mul(part, x[:, source], out=products[:, source])
            # summed with the rest set to zero, since the sum of a slice is ten times slower
            products[:, _outside(shift, ctx.reverse)] = 0
            d_taps[-1 - shift] = products.sum((0, 1))
        return d_x, d_taps, grad.sum((0, 1)), None, None


def _convolve(
    x: torch.Tensor, taps: torch.Tensor, bias: torch.Tensor, seq_idx: torch.Tensor | None, reverse: bool
) -> torch.Tensor:
    out = torch.addcmul(bias, x, taps[-1])
    for shift in range(1, len(taps)):
        source, target = _shifted(shift, reverse)
        out[:, target].addcmul_(_within(x[:, source], seq_idx, source, target), taps[-1 - shift])
    return out


def _shifted(shift: int, reverse: bool) -> tuple[slice, slice]:
    """Tokens that are read, and those that read them ``shift`` tokens away."""
    # a sequence shorter than the shift gives two empty slices
    earlier, later = slice(None, -shift), slice(shift, None)
    return (later, earlier) if reverse else (earlier, later)


def _outside(shift: int, reverse: bool) -> slice:
    """Tokens that no other reads ``shift`` tokens away."""
    return slice(None, shift) if reverse else slice(-shift, None)


def _within(values: torch.Tensor, seq_idx: torch.Tensor | None, source: slice, target: slice) -> torch.Tensor:
    """Zero where source and target are of different sequences: ``(b, l - shift, c)``."""
    if seq_idx is None:
        return values
    return values * (seq_idx[:, source] == seq_idx[:, target]).unsqueeze(-1)
