"""Gradient of the scan: each program takes one chunk in one direction, and all of its heads."""

from __future__ import annotations

import triton
import triton.language as tl

from ._activation import silu, silu_gradient
from ._scan import _LOG2_E, row_of


@triton.jit
def scan_gradient(
    pre,  # (N_DIRECTIONS, t, c): x, B and C before SiLU
    dt,  # (h, t) float32
    A,  # (h,) float32
    D,  # (h,) float32
    starts,
    lengths,
    first_chunk,
    chunk_sequence,
    states,  # (N_DIRECTIONS, chunks, h, N, P), entering each chunk
    d_states,  # (N_DIRECTIONS, chunks, h, N, P), gradients of those that leave it
    d_y,  # (N_DIRECTIONS, t, h * P)
    d_pre,  # (N_DIRECTIONS, t, c)
    d_dt,  # (N_DIRECTIONS, h, t) float32
    d_A,  # (N_DIRECTIONS, chunks, h) float32, to be summed
    d_D,  # (N_DIRECTIONS, chunks, h) float32, to be summed
    n_rows,
    n_sequences,
    n_chunks,
    n_heads,
    FIRST_REVERSE: tl.constexpr,
    N: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
):
    """Gradients of everything that enters the scan, down to the values before SiLU."""
    number, direction = tl.program_id(0), tl.program_id(1)
    reverse = direction + FIRST_REVERSE == 1
    sequence = tl.load(chunk_sequence + number)
    if sequence >= n_sequences:
        return
    start, length = tl.load(starts + sequence), tl.load(lengths + sequence)
    q, n, p = tl.arange(0, Q), tl.arange(0, N), tl.arange(0, P)
    place = (number - tl.load(first_chunk + sequence)) * Q + q
    inside = place < length
    row = row_of(length, place, reverse)
    inner = n_heads * P
    width = inner + 2 * N
    plane = start + direction * n_rows.to(tl.int64)
    pre += plane * width
    d_pre += plane * width
    d_y += plane * inner
    dt += start
    d_dt += start + direction * n_heads * n_rows.to(tl.int64)
    index = (direction * n_chunks + number) * n_heads
    states += index.to(tl.int64) * (N * P)
    d_states += index.to(tl.int64) * (N * P)
    kind = pre.dtype.element_ty
    at_b = row[:, None] * width + inner + n[None, :]
    b = silu(tl.load(pre + at_b, mask=inside[:, None], other=0.0).to(tl.float32)).to(kind)
    c = silu(tl.load(pre + at_b + N, mask=inside[:, None], other=0.0).to(tl.float32)).to(kind)
    visible = q[:, None] >= q[None, :]
    scores = tl.where(visible, tl.dot(c, tl.trans(b), input_precision="ieee"), 0.0)
    d_scores = tl.zeros([Q, Q], tl.float32)
    d_b = tl.zeros([Q, N], tl.float32)
    d_c = tl.zeros([Q, N], tl.float32)
    for head in range(0, n_heads):
        rate = tl.load(A + head)
        skip = tl.load(D + head)
        step = tl.load(dt + head * n_rows.to(tl.int64) + row, mask=inside, other=0.0)
        s = tl.cumsum(step * (rate * _LOG2_E), 0)
        total = tl.sum(step * (rate * _LOG2_E), 0)
        to_token, to_end = tl.exp2(s), tl.exp2(total - s)
        at_x = row[:, None] * width + head * P + p[None, :]
        x = silu(tl.load(pre + at_x, mask=inside[:, None], other=0.0).to(tl.float32))
        xdt = (x * step[:, None]).to(kind)
        g = tl.load(d_y + row[:, None] * inner + head * P + p[None, :], mask=inside[:, None], other=0.0)
        decay = tl.where(visible, tl.exp2(tl.minimum(s[:, None] - s[None, :], 0.0)), 0.0)
        d_mix = tl.dot(g, tl.trans(xdt), input_precision="ieee") * decay
        d_scores += d_mix
        # products of values and their gradients are the gradients of the logarithms of their decays
        pairs = d_mix * scores
        d_s = tl.sum(pairs, 1) - tl.sum(pairs, 0)
        mix = (scores * decay).to(kind)
        at_state = head * (N * P) + n[:, None] * P + p[None, :]
        state = tl.load(states + at_state)
        d_state = tl.load(d_states + at_state)
        through = tl.exp2(total) * tl.sum(tl.sum(state.to(tl.float32) * d_state.to(tl.float32), 1), 0)
        reading = tl.dot(g, tl.trans(state), input_precision="ieee") * to_token[:, None]
        d_c += reading
        d_s += tl.sum(reading * c.to(tl.float32), 1)
        writing = tl.dot(xdt, tl.trans(d_state), input_precision="ieee") * to_end[:, None]
        d_b += writing
        d_to_end = tl.sum(writing * b.to(tl.float32), 1)
        d_a = tl.cumsum(d_s - d_to_end, 0, reverse=True) + tl.sum(d_to_end, 0) + through
        d_xdt = tl.dot(b, d_state, input_precision="ieee") * to_end[:, None]
        d_xdt = tl.dot(tl.trans(mix), g, acc=d_xdt, input_precision="ieee")
        # loaded again, to spare registers
        x_pre = tl.load(pre + at_x, mask=inside[:, None], other=0.0).to(tl.float32)
        x = silu(x_pre)
        gx = g.to(tl.float32)
        d_x = (d_xdt * step[:, None] + skip * gx) * silu_gradient(x_pre)
        tl.store(d_pre + at_x, d_x.to(kind), mask=inside[:, None])
        d_step = tl.sum(d_xdt * x, 1) + d_a * rate
        tl.store(d_dt + head * n_rows.to(tl.int64) + row, d_step, mask=inside)
        tl.store(d_A + index + head, tl.sum(tl.where(inside, d_a * step, 0.0), 0))
        tl.store(d_D + index + head, tl.sum(tl.sum(gx * x, 1), 0))
    d_scores = d_scores.to(kind)
    d_c = tl.dot(d_scores, b, acc=d_c, input_precision="ieee")
    c_pre = tl.load(pre + at_b + N, mask=inside[:, None], other=0.0).to(tl.float32)
    tl.store(d_pre + at_b + N, (d_c * silu_gradient(c_pre)).to(kind), mask=inside[:, None])
    d_b = tl.dot(tl.trans(d_scores), c, acc=d_b, input_precision="ieee")
    b_pre = tl.load(pre + at_b, mask=inside[:, None], other=0.0).to(tl.float32)
    tl.store(d_pre + at_b, (d_b * silu_gradient(b_pre)).to(kind), mask=inside[:, None])
