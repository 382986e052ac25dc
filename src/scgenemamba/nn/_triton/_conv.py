"""Depthwise convolution of both directions in one pass, and its gradient."""

from __future__ import annotations

import triton
import triton.language as tl

from ._activation import silu


@triton.jit(do_not_specialize=["n_rows"])
def convolve(
    projected,  # (t, width)
    taps,  # (K, c)
    bias,  # (c,)
    places,  # (2, t)
    out,  # (N_DIRECTIONS, t, c)
    maps,  # (N_DIRECTIONS, t, c - FIRST): B and C behind SiLU, without ACTIVATE
    n_rows,
    WIDTH: tl.constexpr,
    FIRST: tl.constexpr,
    N_CHANNELS: tl.constexpr,
    K: tl.constexpr,
    N_DIRECTIONS: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    ACTIVATE: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Convolution of columns ``FIRST : FIRST + c`` of ``projected``, behind or before SiLU, with at most four taps.

    The first ``FIRST`` channels are x, as wide as the gate before them.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = row < n_rows
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    wanted = channel < N_CHANNELS
    n_before = tl.load(places + row, mask=inside, other=-1)
    n_after = tl.load(places + n_rows + row, mask=inside, other=-1)
    source = projected + FIRST + row.to(tl.int64)[:, None] * WIDTH + channel[None, :]
    shift = tl.load(bias + channel, mask=wanted, other=0.0).to(tl.float32)
    # read once for both directions, a token's own row first
    last = taps + (K - 1) * N_CHANNELS + channel
    tap0 = tl.load(last, mask=wanted, other=0.0).to(tl.float32)
    tap1 = tl.load(last - N_CHANNELS, mask=wanted & (K > 1), other=0.0).to(tl.float32)
    tap2 = tl.load(last - 2 * N_CHANNELS, mask=wanted & (K > 2), other=0.0).to(tl.float32)
    tap3 = tl.load(last - 3 * N_CHANNELS, mask=wanted & (K > 3), other=0.0).to(tl.float32)
    for d in tl.static_range(N_DIRECTIONS):
        total = tl.zeros([ROWS, CHANNELS], tl.float32) + shift[None, :]
        for k in tl.static_range(K):
            tap = tap0 if k == 0 else tap1 if k == 1 else tap2 if k == 2 else tap3
            if d + FIRST_REVERSE == 1:
                x = tl.load(source + k * WIDTH, mask=(n_after >= k)[:, None] & wanted[None, :], other=0.0)
            else:
                x = tl.load(source - k * WIDTH, mask=(n_before >= k)[:, None] & wanted[None, :], other=0.0)
            total += tap[None, :] * x.to(tl.float32)
        if ACTIVATE:
            total = silu(total)
        target = out + (row + d * n_rows.to(tl.int64))[:, None] * N_CHANNELS + channel[None, :]
        tl.store(target, total.to(out.dtype.element_ty), mask=inside[:, None] & wanted[None, :])
        if not ACTIVATE:
            at = (row + d * n_rows.to(tl.int64))[:, None] * (N_CHANNELS - FIRST) + (channel - FIRST)[None, :]
            mapping = wanted & (channel >= FIRST)
            tl.store(maps + at, silu(total).to(out.dtype.element_ty), mask=inside[:, None] & mapping[None, :])


@triton.jit(do_not_specialize=["n_rows", "rows_each"])
def convolve_gradient(
    projected,  # (t, width)
    taps,  # (K, c)
    places,  # (2, t)
    grad,  # (N_DIRECTIONS, t, c), of the values before SiLU
    d_projected,  # (t, width)
    d_taps,  # (p, K + 1, c) float32, to be summed over p; the bias comes last
    n_rows,
    rows_each,
    WIDTH: tl.constexpr,
    FIRST: tl.constexpr,
    N_CHANNELS: tl.constexpr,
    K: tl.constexpr,
    N_DIRECTIONS: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Gradient of :func:`convolve` without SiLU, for at most four taps.

    Each program sums the gradients of the taps over ``rows_each`` rows.
    """
    part = tl.program_id(0)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    wanted = channel < N_CHANNELS
    # summed over rows at the end only, since that takes all threads of a program
    d_shift = tl.zeros([ROWS, CHANNELS], tl.float32)
    d_tap0 = tl.zeros([ROWS, CHANNELS], tl.float32)
    d_tap1 = tl.zeros([ROWS, CHANNELS], tl.float32)
    d_tap2 = tl.zeros([ROWS, CHANNELS], tl.float32)
    d_tap3 = tl.zeros([ROWS, CHANNELS], tl.float32)
    end = tl.minimum((part + 1) * rows_each, n_rows)
    for start in range(part * rows_each, end, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = row < end
        n_before = tl.load(places + row, mask=inside, other=-1)
        n_after = tl.load(places + n_rows + row, mask=inside, other=-1)
        offset = row.to(tl.int64)[:, None] * WIDTH + FIRST + channel[None, :]
        x = tl.load(projected + offset, mask=inside[:, None] & wanted[None, :], other=0.0).to(tl.float32)
        d_x = tl.zeros([ROWS, CHANNELS], tl.float32)
        for d in tl.static_range(N_DIRECTIONS):
            source = grad + (row + d * n_rows.to(tl.int64))[:, None] * N_CHANNELS + channel[None, :]
            for k in tl.static_range(K):
                # the rows that read this one
                if d + FIRST_REVERSE == 1:
                    g = tl.load(source - k * N_CHANNELS, mask=(n_before >= k)[:, None] & wanted[None, :], other=0.0)
                else:
                    g = tl.load(source + k * N_CHANNELS, mask=(n_after >= k)[:, None] & wanted[None, :], other=0.0)
                g = g.to(tl.float32)
                tap = tl.load(taps + (K - 1 - k) * N_CHANNELS + channel, mask=wanted, other=0.0).to(tl.float32)
                d_x += tap[None, :] * g
                if k == 0:
                    d_shift += g
                    d_tap0 += g * x
                if k == 1:
                    d_tap1 += g * x
                if k == 2:
                    d_tap2 += g * x
                if k == 3:
                    d_tap3 += g * x
        tl.store(d_projected + offset, d_x.to(d_projected.dtype.element_ty), mask=inside[:, None] & wanted[None, :])
    d_taps += part * (K + 1) * N_CHANNELS
    tl.store(d_taps + K * N_CHANNELS + channel, tl.sum(d_shift, 0), mask=wanted)
    for k in tl.static_range(K):
        d_tap = tl.sum(d_tap0 if k == 0 else d_tap1 if k == 1 else d_tap2 if k == 2 else d_tap3, 0)
        tl.store(d_taps + (K - 1 - k) * N_CHANNELS + channel, d_tap, mask=wanted)
