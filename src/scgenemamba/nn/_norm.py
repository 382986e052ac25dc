"""Root-mean-square normalisation, plain and gated."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable


class RMSNorm(nn.RMSNorm):
    """:class:`torch.nn.RMSNorm` over the last axis, several times faster in training on a CPU.

    Inside it is float32 or better; the output has the type of the input.
    """

    eps: float

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``(..., d)``."""
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, gate: torch.Tensor | None = None) -> torch.Tensor:
    """RMSNorm of ``x``, or of ``x * gate``, over the last axis.

    Parameters
    ----------
    x
        ``(..., d)``.
    weight
        ``(d,)``.
    eps
        Added to the mean square.
    gate
        ``(..., d)`` or ``None``.

    Returns
    -------
    ``(..., d)``, of the type of ``x``.
    """
    return _RMSNorm.apply(x, gate, weight, eps)


class _RMSNorm(torch.autograd.Function):
    """Keeps its inputs and one number per token."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gate: torch.Tensor | None, weight: torch.Tensor, eps: float) -> torch.Tensor:
        values = _gated(x, gate)
        mean_square = torch.linalg.vector_norm(values, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = mean_square.add_(eps).rsqrt_()
        ctx.save_for_backward(x, gate, weight, scale)
        return (values * scale).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, gate, weight, scale = ctx.saved_tensors
        values, grad = _gated(x, gate), _accurate(grad)
        product = (grad * values).flatten(0, -2)
        d_weight = scale.flatten() @ product
        along = (product @ weight.to(product.dtype)).view_as(scale)
        # the part of the gradient along the vector itself does not change the normalised vector
        d_values = (grad * weight).mul_(scale).addcmul_(values, along.mul_(scale**3).div_(-x.shape[-1]))
        d_x = d_values if gate is None else d_values * gate
        d_gate = None if gate is None else d_values.mul_(x).to(gate.dtype)
        return d_x.to(x.dtype), d_gate, d_weight.to(weight.dtype), None


def _gated(x: torch.Tensor, gate: torch.Tensor | None) -> torch.Tensor:
    return _accurate(x) if gate is None else _accurate(x) * gate


def _accurate(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
