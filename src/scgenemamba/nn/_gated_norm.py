"""Gate and normalisation after the scan."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def gated_rms_norm(y: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMSNorm of ``y * gate`` over the last axis, inside in float32 or better.

    Parameters
    ----------
    y
        Output of the scan, ``(..., d_inner)``.
    gate
        ``silu(z)``, ``(..., d_inner)``, shared by the directions.
    weight
        ``(d_inner,)``.
    eps
        Added to the mean square.

    Returns
    -------
    ``(..., d_inner)``, of the type of ``y``.
    """
    return _GatedRMSNorm.apply(y, gate, weight, eps)


class _GatedRMSNorm(torch.autograd.Function):
    """Keeps its inputs and one number per token."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        gated = _accurate(y) * gate
        mean_square = torch.linalg.vector_norm(gated, dim=-1, keepdim=True).square_().div_(y.shape[-1])
        scale = mean_square.add_(eps).rsqrt_()
        ctx.save_for_backward(y, gate, weight, scale)
        return gated.mul_(scale).mul_(weight).to(y.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        y, gate, weight, scale = ctx.saved_tensors
        gated, grad = _accurate(y) * gate, _accurate(grad)
        product = (grad * gated).flatten(0, -2)
        d_weight = scale.flatten() @ product
        along = (product @ weight.to(product.dtype)).view_as(scale)
        # the part of the gradient along the vector itself does not change the normalised vector
        d_gated = (grad * weight).mul_(scale).addcmul_(gated, along.mul_(scale**3).div_(-y.shape[-1]))
        return (d_gated * gate).to(y.dtype), d_gated.mul_(y), d_weight.to(weight.dtype), None


def _accurate(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
