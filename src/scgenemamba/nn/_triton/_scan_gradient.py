"""Gradient of the scan, chunk by chunk: once the gradients of the states are known, all chunks are independent."""

from __future__ import annotations

import triton
import triton.language as tl

from ._activation import sigmoid, silu, silu_gradient
from ._scan import chunk_at, row_of


@triton.jit(do_not_specialize=["n_rows", "n_chunks"])
def value_gradient(
    pre,  # (N_DIRECTIONS, t, c): x, B and C before SiLU
    maps,  # (N_DIRECTIONS, t, 2N): B and C
    dt,  # (N_DIRECTIONS, chunks, h, Q) float32
    decay,  # (N_DIRECTIONS, chunks, h, Q) float32
    A_log,  # (h,)
    D,  # (h,)
    chunks,  # (chunks, 3)
    states,  # (N_DIRECTIONS, chunks, h, N, P), entering each chunk
    d_states,  # (N_DIRECTIONS, chunks, h, N, P), gradients of those that leave it
    d_y,  # (N_DIRECTIONS, t, h * P)
    d_pre,  # (N_DIRECTIONS, t, c)
    d_raw,  # (N_DIRECTIONS, h, t) float32, of the step sizes before softplus
    sums,  # (3, N_DIRECTIONS, chunks, h) float32, to be summed: gradients of A_log, D and dt_bias
    n_rows,
    n_chunks,
    N_HEADS: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    N: tl.constexpr,
    P: tl.constexpr,
    PRECISION: tl.constexpr,
    Q: tl.constexpr,
):
    """Gradients of x before SiLU, of the step sizes, of A and of D: one program per chunk, direction and head."""
    head, number, direction = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    reverse = direction + FIRST_REVERSE == 1
    start, length, first = chunk_at(chunks, number)
    index = (direction * n_chunks + number).to(tl.int64) * N_HEADS + head
    n_sums = tl.num_programs(2) * n_chunks * N_HEADS
    if length == 0:
        for i in tl.static_range(3):
            tl.store(sums + i * n_sums + index, 0.0)
        return
    q, n, p = tl.arange(0, Q), tl.arange(0, N), tl.arange(0, P)
    inside = first + q < length
    row = row_of(length, first + q, reverse)
    inner = N_HEADS * P
    width = inner + 2 * N
    plane = start + direction * n_rows.to(tl.int64)
    kind = pre.dtype.element_ty
    at_state = index * (N * P) + n[:, None] * P + p[None, :]
    step = tl.load(dt + index * Q + q)
    s = tl.load(decay + index * Q + q)
    through = tl.load(decay + index * Q + (Q - 1))
    maps += plane * (2 * N)
    b = tl.load(maps + row[:, None] * (2 * N) + n[None, :], mask=inside[:, None], other=0.0)
    c = tl.load(maps + N + row[:, None] * (2 * N) + n[None, :], mask=inside[:, None], other=0.0)
    at_x = pre + plane * width + head * P + row[:, None] * width + p[None, :]
    at_g = d_y + plane * inner + head * P + row[:, None] * inner + p[None, :]
    x = silu(tl.load(at_x, mask=inside[:, None], other=0.0).to(tl.float32))
    g = tl.load(at_g, mask=inside[:, None], other=0.0)
    d_skip = tl.sum(tl.sum(g.to(tl.float32) * x, 1), 0)
    xdt = (x * step[:, None]).to(kind)
    # rows are the tokens that are read, columns those that read them
    read = q[:, None] <= q[None, :]
    scores = tl.dot(b, tl.trans(c), input_precision=PRECISION) * tl.exp2(s[None, :] - s[:, None])
    scores = tl.where(read, scores, 0.0)
    # products of values and their gradients are the gradients of the logarithms of their decays
    pairs = tl.dot(xdt, tl.trans(g), input_precision=PRECISION) * scores
    scores = scores.to(kind)
    d_s = tl.sum(pairs, 0) - tl.sum(pairs, 1)
    state = tl.load(states + at_state)
    from_state = tl.dot(c, state, input_precision=PRECISION)
    d_s += tl.exp2(s) * tl.sum(from_state * g.to(tl.float32), 1)
    d_state = tl.load(d_states + at_state)
    d_through = tl.exp2(through) * tl.sum(tl.sum(state.to(tl.float32) * d_state.to(tl.float32), 1), 0)
    d_xdt = tl.dot(b, d_state, input_precision=PRECISION) * tl.exp2(through - s)[:, None]
    d_to_end = tl.sum(d_xdt * xdt.to(tl.float32), 1)
    d_a = tl.cumsum(d_s - d_to_end, 0, reverse=True) + tl.sum(d_to_end, 0) + d_through
    d_xdt = tl.dot(scores, g, acc=d_xdt, input_precision=PRECISION)
    rate = -tl.exp(tl.load(A_log + head).to(tl.float32))
    skip = tl.load(D + head).to(tl.float32)
    # read again: kept, it would take the registers of another program
    x_pre = tl.load(at_x, mask=inside[:, None], other=0.0, volatile=True).to(tl.float32)
    gate = sigmoid(x_pre)
    d_raw += start + (direction * N_HEADS + head) * n_rows.to(tl.int64)
    # the derivative of softplus(u), from its value
    d_step = (tl.sum(d_xdt * (x_pre * gate), 1) + d_a * rate) * (1.0 - tl.exp(-step))
    tl.store(d_raw + row, d_step, mask=inside)
    d_x = (d_xdt * step[:, None] + skip * g.to(tl.float32)) * silu_gradient(x_pre, gate)
    tl.store(d_pre + plane * width + head * P + row[:, None] * width + p[None, :], d_x.to(kind), mask=inside[:, None])
    tl.store(sums + index, tl.sum(d_a * step, 0) * rate)
    tl.store(sums + n_sums + index, d_skip)
    tl.store(sums + 2 * n_sums + index, tl.sum(d_step, 0))


@triton.jit(do_not_specialize=["n_rows", "n_chunks"])
def map_gradient(
    pre,  # (N_DIRECTIONS, t, c): x, B and C before SiLU
    maps,  # (N_DIRECTIONS, t, 2N): B and C
    dt,  # (N_DIRECTIONS, chunks, h, Q) float32
    decay,  # (N_DIRECTIONS, chunks, h, Q) float32
    chunks,  # (chunks, 3)
    states,  # (N_DIRECTIONS, chunks, h, N, P), entering each chunk
    d_states,  # (N_DIRECTIONS, chunks, h, N, P), gradients of those that leave it
    d_y,  # (N_DIRECTIONS, t, h * P)
    d_pre,  # (N_DIRECTIONS, t, c)
    n_rows,
    n_chunks,
    N_HEADS: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    N: tl.constexpr,
    P: tl.constexpr,
    PRECISION: tl.constexpr,
    Q: tl.constexpr,
):
    """Gradients of B and C before SiLU, which all heads share: one program per chunk and direction."""
    number, direction = tl.program_id(0), tl.program_id(1)
    reverse = direction + FIRST_REVERSE == 1
    start, length, first = chunk_at(chunks, number)
    if length == 0:
        return
    q, n, p = tl.arange(0, Q), tl.arange(0, N), tl.arange(0, P)
    inside = first + q < length
    row = row_of(length, first + q, reverse)
    inner = N_HEADS * P
    width = inner + 2 * N
    plane = start + direction * n_rows.to(tl.int64)
    kind = pre.dtype.element_ty
    pre += plane * width
    d_pre += plane * width
    d_y += plane * inner
    index = (direction * n_chunks + number).to(tl.int64) * N_HEADS
    dt += index * Q
    decay += index * Q
    states += index * (N * P)
    d_states += index * (N * P)
    d_scores = tl.zeros([Q, Q], tl.float32)
    d_b = tl.zeros([Q, N], tl.float32)
    d_c = tl.zeros([Q, N], tl.float32)
    for head in range(0, N_HEADS):
        step = tl.load(dt + head * Q + q)
        s = tl.load(decay + head * Q + q)
        through = tl.load(decay + head * Q + (Q - 1))
        x = tl.load(pre + head * P + row[:, None] * width + p[None, :], mask=inside[:, None], other=0.0)
        g = tl.load(d_y + head * P + row[:, None] * inner + p[None, :], mask=inside[:, None], other=0.0)
        state = tl.load(states + head * (N * P) + n[:, None] * P + p[None, :])
        d_state = tl.load(d_states + head * (N * P) + n[:, None] * P + p[None, :])
        x = silu(x.to(tl.float32)) * step[:, None]
        # what is hidden may overflow here, and is left out behind the loop
        d_scores += tl.dot(g, tl.trans(x.to(kind)), input_precision=PRECISION) * tl.exp2(s[:, None] - s[None, :])
        reading = (g.to(tl.float32) * tl.exp2(s)[:, None]).to(kind)
        d_c = tl.dot(reading, tl.trans(state), acc=d_c, input_precision=PRECISION)
        writing = (x * tl.exp2(through - s)[:, None]).to(kind)
        d_b = tl.dot(writing, tl.trans(d_state), acc=d_b, input_precision=PRECISION)
    d_scores = tl.where(q[:, None] >= q[None, :], d_scores, 0.0).to(kind)
    maps += plane * (2 * N)
    b = tl.load(maps + row[:, None] * (2 * N) + n[None, :], mask=inside[:, None], other=0.0)
    c = tl.load(maps + N + row[:, None] * (2 * N) + n[None, :], mask=inside[:, None], other=0.0)
    d_c = tl.dot(d_scores, b, acc=d_c, input_precision=PRECISION)
    d_b = tl.dot(tl.trans(d_scores), c, acc=d_b, input_precision=PRECISION)
    at = inner + row[:, None] * width + n[None, :]
    b_pre = tl.load(pre + at, mask=inside[:, None], other=0.0).to(tl.float32)
    c_pre = tl.load(pre + at + N, mask=inside[:, None], other=0.0).to(tl.float32)
    tl.store(d_pre + at, (d_b * silu_gradient(b_pre, sigmoid(b_pre))).to(kind), mask=inside[:, None])
    tl.store(d_pre + at + N, (d_c * silu_gradient(c_pre, sigmoid(c_pre))).to(kind), mask=inside[:, None])
