"""Depthwise convolution of both directions in one pass, and its gradient."""

from __future__ import annotations

import triton
import triton.language as tl

from ._activation import silu


@triton.jit
def convolve(
    projected,  # (t, width)
    taps,  # (c, K)
    bias,  # (c,)
    dt_bias,  # (h,)
    before,  # (t,)
    after,  # (t,)
    out,  # (N_DIRECTIONS, t, c)
    dt,  # (h, t) float32
    n_rows,
    width,
    first,
    n_channels,
    n_heads,
    K: tl.constexpr,
    N_DIRECTIONS: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    ACTIVATE: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    HEADS: tl.constexpr,
):
    """Convolution of columns ``first : first + c`` of ``projected``, with or without SiLU, and the step sizes behind them.

    The last program along the channels makes the step sizes: softplus of the last ``h`` columns.
    """
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    block = tl.program_id(1)
    inside = row < n_rows
    if block * CHANNELS >= n_channels:
        head = tl.arange(0, HEADS)
        mask = inside[:, None] & (head < n_heads)[None, :]
        raw = tl.load(projected + row[:, None] * width + first + n_channels + head[None, :], mask=mask, other=0.0)
        raw = raw.to(tl.float32) + tl.load(dt_bias + head, mask=head < n_heads, other=0.0)[None, :]
        # as torch's softplus: the identity where the exponential would overflow
        step = tl.where(raw > 20.0, raw, tl.log(1.0 + tl.exp(tl.minimum(raw, 20.0))))
        tl.store(dt + head[None, :].to(tl.int64) * n_rows + row[:, None], step, mask=mask)
    else:
        channel = block * CHANNELS + tl.arange(0, CHANNELS)
        wanted = channel < n_channels
        n_before = tl.load(before + row, mask=inside, other=-1)
        n_after = tl.load(after + row, mask=inside, other=-1)
        source = projected + row[:, None] * width + first + channel[None, :]
        shift0 = tl.load(bias + channel, mask=wanted, other=0.0).to(tl.float32)
        for d in tl.static_range(N_DIRECTIONS):
            total = tl.zeros([ROWS, CHANNELS], tl.float32) + shift0[None, :]
            for k in tl.static_range(K):
                tap = tl.load(taps + channel * K + (K - 1 - k), mask=wanted, other=0.0).to(tl.float32)
                if d + FIRST_REVERSE == 1:
                    there = n_after >= k
                    x = tl.load(source + k * width, mask=there[:, None] & wanted[None, :], other=0.0)
                else:
                    there = n_before >= k
                    x = tl.load(source - k * width, mask=there[:, None] & wanted[None, :], other=0.0)
                total += tap[None, :] * x.to(tl.float32)
            if ACTIVATE:
                total = silu(total)
            target = out + (row[:, None] + d * n_rows.to(tl.int64)) * n_channels + channel[None, :]
            tl.store(target, total.to(out.dtype.element_ty), mask=inside[:, None] & wanted[None, :])


@triton.jit
def convolve_gradient(
    projected,  # (t, width)
    taps,  # (c, K)
    before,  # (t,)
    after,  # (t,)
    grad,  # (N_DIRECTIONS, t, c), of the values before SiLU
    d_projected,  # (t, width)
    d_taps,  # (p, c, K) float32, to be summed over p
    d_bias,  # (p, c) float32
    n_rows,
    rows_each,
    width,
    first,
    n_channels,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    N_DIRECTIONS: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Gradient of :func:`convolve` without SiLU; each program sums taps over ``rows_each`` rows."""
    part = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    wanted = channel < n_channels
    tap_index = tl.arange(0, TAPS)
    d_tap = tl.zeros([TAPS, CHANNELS], tl.float32)
    d_shift = tl.zeros([CHANNELS], tl.float32)
    for start in range(part * rows_each, tl.minimum((part + 1) * rows_each, n_rows), ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        inside = row < tl.minimum((part + 1) * rows_each, n_rows)
        n_before = tl.load(before + row, mask=inside, other=-1)
        n_after = tl.load(after + row, mask=inside, other=-1)
        at = projected + row[:, None] * width + first + channel[None, :]
        x = tl.load(at, mask=inside[:, None] & wanted[None, :], other=0.0).to(tl.float32)
        d_x = tl.zeros([ROWS, CHANNELS], tl.float32)
        for d in tl.static_range(N_DIRECTIONS):
            source = grad + (row[:, None] + d * n_rows.to(tl.int64)) * n_channels + channel[None, :]
            for k in tl.static_range(K):
                # the rows that read this one
                if d + FIRST_REVERSE == 1:
                    there = n_before >= k
                    g = tl.load(source - k * n_channels, mask=there[:, None] & wanted[None, :], other=0.0)
                else:
                    there = n_after >= k
                    g = tl.load(source + k * n_channels, mask=there[:, None] & wanted[None, :], other=0.0)
                g = g.to(tl.float32)
                tap = tl.load(taps + channel * K + (K - 1 - k), mask=wanted, other=0.0).to(tl.float32)
                d_x += tap[None, :] * g
                d_tap += tl.where(tap_index == K - 1 - k, 1.0, 0.0)[:, None] * tl.sum(g * x, 0)[None, :]
                if k == 0:
                    d_shift += tl.sum(g, 0)
        to = d_projected + row[:, None] * width + first + channel[None, :]
        tl.store(to, d_x.to(d_projected.dtype.element_ty), mask=inside[:, None] & wanted[None, :])
    place = (part * n_channels + channel).to(tl.int64)
    tl.store(d_taps + place[None, :] * K + tap_index[:, None], d_tap, mask=wanted[None, :] & (tap_index < K)[:, None])
    tl.store(d_bias + place, d_shift, mask=wanted)
