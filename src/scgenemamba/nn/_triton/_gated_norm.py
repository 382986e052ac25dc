"""Gated normalisation of all directions, and their sum, in one pass; and its gradient."""

from __future__ import annotations

import triton
import triton.language as tl

from ._activation import sigmoid


@triton.jit(do_not_specialize=["n_rows"])
def gated_norm(
    y,  # (N_DIRECTIONS, t, width)
    projected,  # (t, stride), the gate in its first columns
    weight,  # (width,)
    out,  # (t, width) with SUMMED, otherwise (N_DIRECTIONS, t, width)
    n_rows,
    STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    N_DIRECTIONS: tl.constexpr,
    SUMMED: tl.constexpr,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``RMSNorm(y silu(z))``, summed over the directions or not, times ``SCALE``."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    mask = (row < n_rows)[:, None] & (column < WIDTH)[None, :]
    z = tl.load(projected + row[:, None] * STRIDE + column[None, :], mask=mask, other=0.0).to(tl.float32)
    gate = z * sigmoid(z)
    w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :] * SCALE
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for d in tl.static_range(N_DIRECTIONS):
        at = (row[:, None] + d * n_rows.to(tl.int64)) * WIDTH + column[None, :]
        u = tl.load(y + at, mask=mask, other=0.0).to(tl.float32) * gate
        normed = u * tl.rsqrt(tl.sum(u * u, 1) / WIDTH + EPS)[:, None]
        if SUMMED:
            total += normed
        else:
            tl.store(out + at, (normed * w).to(out.dtype.element_ty), mask=mask)
    if SUMMED:
        tl.store(out + row[:, None] * WIDTH + column[None, :], (total * w).to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["n_rows", "rows_each"])
def gated_norm_gradient(
    y,  # (N_DIRECTIONS, t, width)
    projected,  # (t, stride)
    weight,  # (width,)
    grad,  # (t, width) with SUMMED, otherwise (N_DIRECTIONS, t, width)
    d_y,  # (N_DIRECTIONS, t, width)
    d_projected,  # (t, stride), the gate in its first columns
    d_weight,  # (p, width) float32, to be summed over p
    n_rows,
    rows_each,
    STRIDE: tl.constexpr,
    WIDTH: tl.constexpr,
    EPS: tl.constexpr,
    N_DIRECTIONS: tl.constexpr,
    SUMMED: tl.constexpr,
    SCALE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Gradient of :func:`gated_norm`; each program sums the weight over ``rows_each`` rows."""
    part = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    w = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :] * SCALE
    d_w = tl.zeros([COLUMNS], tl.float32)
    end = tl.minimum((part + 1) * rows_each, n_rows)
    for first in range(part * rows_each, end, ROWS):
        row = (first + tl.arange(0, ROWS)).to(tl.int64)
        mask = (row < end)[:, None] & (column < WIDTH)[None, :]
        z = tl.load(projected + row[:, None] * STRIDE + column[None, :], mask=mask, other=0.0).to(tl.float32)
        g = sigmoid(z)
        gate = z * g
        d_gate = tl.zeros([ROWS, COLUMNS], tl.float32)
        for d in tl.static_range(N_DIRECTIONS):
            at = (row[:, None] + d * n_rows.to(tl.int64)) * WIDTH + column[None, :]
            if SUMMED:
                upper = tl.load(grad + row[:, None] * WIDTH + column[None, :], mask=mask, other=0.0).to(tl.float32)
            else:
                upper = tl.load(grad + at, mask=mask, other=0.0).to(tl.float32)
            value = tl.load(y + at, mask=mask, other=0.0).to(tl.float32)
            u = value * gate
            scale = tl.rsqrt(tl.sum(u * u, 1) / WIDTH + EPS)[:, None]
            d_w += tl.sum(upper * u * scale, 0) * SCALE
            upper *= w
            along = tl.sum(upper * u, 1)[:, None] / WIDTH
            d_u = scale * (upper - u * (scale * scale * along))
            tl.store(d_y + at, (d_u * gate).to(d_y.dtype.element_ty), mask=mask)
            d_gate += d_u * value
        d_z = d_gate * (g + gate * (1.0 - g))
        target = d_projected + row[:, None] * STRIDE + column[None, :]
        tl.store(target, d_z.to(d_projected.dtype.element_ty), mask=mask)
    tl.store(d_weight + part * WIDTH + column, d_w, mask=column < WIDTH)
