"""Root-mean-square normalisation in one pass, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from ._launch import ceil_div, launch, power_of_two

# sums over all rows are taken in this many parts, then added in a fixed order
_PARTS = 2048
_ELEMENTS = 1024
_WARPS = 2


@triton.jit(do_not_specialize=["n_rows"])
def _normalise(
    x, weight, out, n_rows, WIDTH: tl.constexpr, EPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    mask = (row < n_rows)[:, None] & (column < WIDTH)[None, :]
    at = row[:, None] * WIDTH + column[None, :]
    values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    scale = tl.rsqrt(tl.sum(values * values, 1) / WIDTH + EPS)[:, None]
    tl.store(out + at, (values * scale * w).to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["n_rows", "rows_each"])
def _normalise_gradient(
    x,
    weight,
    grad,
    d_x,
    d_weight,
    n_rows,
    rows_each,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    part = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    d_w = tl.zeros([COLUMNS], tl.float32)
    end = tl.minimum((part + 1) * rows_each, n_rows)
    for first in range(part * rows_each, end, ROWS):
        row = (first + tl.arange(0, ROWS)).to(tl.int64)
        mask = (row < end)[:, None] & (column < WIDTH)[None, :]
        at = row[:, None] * WIDTH + column[None, :]
        values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        upper = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(values * values, 1) / WIDTH + EPS)[:, None]
        d_w += tl.sum(upper * values * scale, 0)
        upper *= w
        along = tl.sum(upper * values, 1)[:, None] / WIDTH
        d = scale * (upper - values * (scale * scale * along))
        tl.store(d_x + at, d.to(d_x.dtype.element_ty), mask=mask)
    tl.store(d_weight + part * WIDTH + column, d_w, mask=column < WIDTH)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    """RMSNorm of ``(t, d)`` with an output of the given type."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _RMSNorm.apply(x, weight, eps, dtype)
    return _forward(x, weight, eps, dtype)


def _forward(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    n_rows, width = x.shape
    out = torch.empty_like(x, dtype=dtype)
    rows, columns = _tile(width)
    constants = {"WIDTH": width, "EPS": eps, "ROWS": rows, "COLUMNS": columns, "num_warps": _WARPS}
    launch(_normalise, (ceil_div(n_rows, rows),), (x, weight, out), (n_rows,), constants)
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        out = _forward(x, weight, eps, dtype)
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        n_rows, width = x.shape
        rows, columns = _tile(width)
        each = ceil_div(ceil_div(n_rows, _PARTS), rows) * rows
        parts = ceil_div(n_rows, each)
        d_x = torch.empty_like(x)
        d_weight = x.new_empty(parts, width, dtype=torch.float32)
        constants = {"WIDTH": width, "EPS": ctx.eps, "ROWS": rows, "COLUMNS": columns, "num_warps": _WARPS}
        tensors = (x, weight, grad.contiguous(), d_x, d_weight)
        launch(_normalise_gradient, (parts,), tensors, (n_rows, each), constants)
        return d_x, d_weight.sum(0).to(weight.dtype), None, None


def _tile(width: int) -> tuple[int, int]:
    columns = power_of_two(width)
    return max(1, _ELEMENTS // columns), columns
