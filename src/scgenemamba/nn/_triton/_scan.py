"""The scan of Mamba-2: each program walks through a segment of a sequence, forwards or backwards, chunk by chunk.

The formulas are those of :mod:`scgenemamba.nn._ssd`. Axes: rows of the batch ``t``, heads ``h``, channels of a head
``P``, state ``N``, tokens of a chunk ``Q``.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def row_of(length, place, reverse):
    """Row within its sequence of the token at a place, counted from the end at which the direction starts."""
    return tl.where(reverse, length - 1 - place, place)


@triton.jit
def chunk_at(chunks, number):
    """Start and length of a chunk's sequence, and place of its first token; the length is zero behind the end."""
    return tl.load(chunks + number * 3), tl.load(chunks + number * 3 + 1), tl.load(chunks + number * 3 + 2)


@triton.jit(do_not_specialize=["n_chunks"])
def step_sizes(
    projected,  # (t, width)
    dt_bias,  # (h,)
    A_log,  # (h,)
    chunks,  # (chunks, 3)
    dt,  # (N_DIRECTIONS, chunks, h, Q) float32
    decay,  # (N_DIRECTIONS, chunks, h, Q) float32
    entry,  # (N_DIRECTIONS, chunks, h, Q) float32
    n_chunks,
    WIDTH: tl.constexpr,
    FIRST: tl.constexpr,
    N_HEADS: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    HEADS: tl.constexpr,
    Q: tl.constexpr,
):
    """Step sizes ``dt`` of each chunk, and binary logarithms of decays.

    ``decay`` is that from the chunk's start to a token; ``entry`` is ``decay`` over ``dt``, so that a token enters
    what another one reads with the factor ``2 ** (decay - entry)``. Places behind the end take no step.
    """
    number, direction = tl.program_id(0), tl.program_id(1)
    start, length, first = chunk_at(chunks, number)
    if length == 0:
        return
    q, head = tl.arange(0, Q), tl.arange(0, HEADS)
    place = first + q
    row = start + row_of(length, place, direction + FIRST_REVERSE == 1)
    own = head < N_HEADS
    mask = (place < length)[:, None] & own[None, :]
    raw = tl.load(projected + FIRST + row.to(tl.int64)[:, None] * WIDTH + head[None, :], mask=mask, other=0.0)
    raw = raw.to(tl.float32) + tl.load(dt_bias + head, mask=own, other=0.0).to(tl.float32)[None, :]
    # as torch's softplus: the identity where the exponential would overflow
    step = tl.where(raw > 20.0, raw, tl.log(1.0 + tl.exp(tl.minimum(raw, 20.0))))
    step = tl.where(mask, step, 0.0)
    rate = -tl.exp(tl.load(A_log + head, mask=own, other=0.0).to(tl.float32)) * _LOG2_E
    s = tl.cumsum(step * rate[None, :], 0)
    at = ((direction * n_chunks + number).to(tl.int64) * N_HEADS + head)[None, :] * Q + q[:, None]
    tl.store(dt + at, step, mask=own[None, :])
    tl.store(decay + at, s, mask=own[None, :])
    tl.store(entry + at, s - tl.log2(step), mask=own[None, :])


@triton.jit
def earlier_state(
    local_states,
    local_decays,
    segments,
    head,
    direction,
    n_pieces,
    n_heads,
    GRADIENT: tl.constexpr,
    SEGMENT_PIECES: tl.constexpr,
    N: tl.constexpr,
    P: tl.constexpr,
):
    """State, or its gradient, that enters a segment: what the pieces before it, or behind it, leave."""
    n, p = tl.arange(0, N), tl.arange(0, P)
    first, last, own = tl.load(segments + 4), tl.load(segments + 5), tl.load(segments + 6)
    state = tl.zeros([N, P], tl.float32)
    # unrolled, so that several are on their way at a time
    for i in tl.range(0, last + 1 - own - SEGMENT_PIECES if GRADIENT else own - first, loop_unroll_factor=4):
        piece = last - i if GRADIENT else first + i
        place = ((direction * n_pieces + piece) * n_heads + head).to(tl.int64)
        decay = tl.exp2(tl.load(local_decays + place))
        state = state * decay + tl.load(local_states + place * N * P + n[:, None] * P + p[None, :])
    return state


@triton.jit(do_not_specialize=["n_rows", "n_pieces", "n_chunks"])
def scan(
    xbc,  # (N_DIRECTIONS, t, c): x of all heads, B, C
    decay,  # (N_DIRECTIONS, chunks, h, Q) float32
    entry,  # (N_DIRECTIONS, chunks, h, Q) float32
    D,  # (h,)
    segments,  # (segments, 7)
    local_states,  # (N_DIRECTIONS, pieces, h, N, P) float32, left by each piece alone
    local_decays,  # (N_DIRECTIONS, pieces, h) float32, binary logarithms
    states,  # (N_DIRECTIONS, chunks, h, N, P), entering each chunk
    y,  # (N_DIRECTIONS, t, h * P)
    n_rows,
    n_pieces,
    n_chunks,
    N_HEADS: tl.constexpr,
    SEGMENT_CHUNKS: tl.constexpr,
    SEGMENT_PIECES: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    LONG: tl.constexpr,
    STORE_STATES: tl.constexpr,
    N: tl.constexpr,
    P: tl.constexpr,
    PRECISION: tl.constexpr,
    Q: tl.constexpr,
):
    """Outputs of all heads and directions."""
    head, direction = tl.program_id(0), tl.program_id(2)
    reverse = direction + FIRST_REVERSE == 1
    segments += tl.program_id(1) * 7
    start, length = tl.load(segments), tl.load(segments + 1)
    if length == 0:
        return
    chunk_from = tl.load(segments + 2) // Q
    chunk_to = tl.minimum(chunk_from + SEGMENT_CHUNKS, tl.cdiv(length, Q))
    skip = tl.load(D + head).to(tl.float32)
    q, n, p = tl.arange(0, Q), tl.arange(0, N), tl.arange(0, P)
    # offsets within a sequence are small enough for 32 bits, those of the sequence itself are not
    width = N_HEADS * P + 2 * N
    plane = start + direction * n_rows.to(tl.int64)
    xbc += plane * width
    y += plane * (N_HEADS * P) + head * P
    index = (direction * n_chunks + tl.load(segments + 3)).to(tl.int64) * N_HEADS + head
    decay += index * Q
    entry += index * Q
    states += index * (N * P)
    if LONG:
        state = earlier_state(
            local_states, local_decays, segments, head, direction, n_pieces, N_HEADS, False, SEGMENT_PIECES, N, P
        )
    else:
        state = tl.zeros([N, P], tl.float32)
    kind = xbc.dtype.element_ty
    for chunk in range(chunk_from, chunk_to):
        place = chunk * Q + q
        inside = place < length
        row = row_of(length, place, reverse)
        lane = chunk * N_HEADS * Q
        s = tl.load(decay + lane + q)
        t = tl.load(entry + lane + q)
        through = tl.load(decay + lane + (Q - 1))
        x = tl.load(xbc + head * P + row[:, None] * width + p[None, :], mask=inside[:, None], other=0.0)
        b = tl.load(xbc + N_HEADS * P + row[:, None] * width + n[None, :], mask=inside[:, None], other=0.0)
        c = tl.load(xbc + N_HEADS * P + N + row[:, None] * width + n[None, :], mask=inside[:, None], other=0.0)
        if STORE_STATES:
            entering = states + chunk * (N_HEADS * N * P) + n[:, None] * P + p[None, :]
            tl.store(entering, state.to(states.dtype.element_ty))
        out = tl.dot(c, state.to(kind), input_precision=PRECISION) * tl.exp2(s)[:, None]
        # step sizes and D weigh the small matrix, so that x is used as it was read
        mix = tl.dot(c, tl.trans(b), input_precision=PRECISION) * tl.exp2(s[:, None] - t[None, :])
        mix = tl.where(q[:, None] >= q[None, :], mix, 0.0) + tl.where(q[:, None] == q[None, :], skip, 0.0)
        out = tl.dot(mix.to(kind), x, acc=out, input_precision=PRECISION)
        written = (b.to(tl.float32) * tl.exp2(through - t)[:, None]).to(kind)
        state = tl.dot(tl.trans(written), x, acc=state * tl.exp2(through), input_precision=PRECISION)
        target = y + row[:, None] * (N_HEADS * P) + p[None, :]
        tl.store(target, out.to(y.dtype.element_ty), mask=inside[:, None])


@triton.jit(do_not_specialize=["n_rows", "n_pieces", "n_chunks"])
def carry(
    read,  # (N_DIRECTIONS, t, read_width): what maps the values to the state, from column ``read_from`` on
    values,  # (N_DIRECTIONS, t, value_width)
    decay,  # (N_DIRECTIONS, chunks, h, Q) float32
    entry,  # (N_DIRECTIONS, chunks, h, Q) float32
    segments,  # (segments, 7)
    local_states,  # (N_DIRECTIONS, pieces, h, N, P) float32
    local_decays,  # (N_DIRECTIONS, pieces, h) float32
    states,  # (N_DIRECTIONS, chunks, h, N, P)
    n_rows,
    n_pieces,
    n_chunks,
    N_HEADS: tl.constexpr,
    SEGMENT_CHUNKS: tl.constexpr,
    SEGMENT_PIECES: tl.constexpr,
    READ_FROM: tl.constexpr,
    READ_WIDTH: tl.constexpr,
    VALUE_WIDTH: tl.constexpr,
    FIRST_REVERSE: tl.constexpr,
    GRADIENT: tl.constexpr,
    LOCAL: tl.constexpr,
    LONG: tl.constexpr,
    N: tl.constexpr,
    P: tl.constexpr,
    PRECISION: tl.constexpr,
    Q: tl.constexpr,
):
    """States alone, or with ``GRADIENT`` the gradients of the states, which run against the order of the scan.

    With ``LOCAL`` the programs walk through pieces, each starts from zero and leaves its result in ``local_states``;
    otherwise the gradient of the state that leaves each chunk is stored in ``states``.
    """
    head, direction = tl.program_id(0), tl.program_id(2)
    reverse = direction + FIRST_REVERSE == 1
    segments += tl.program_id(1) * 7
    start, length = tl.load(segments), tl.load(segments + 1)
    if length == 0:
        return
    if LOCAL:
        # no segment follows
        segment = SEGMENT_CHUNKS * Q * SEGMENT_PIECES
        at = tl.load(segments + 2)
        if at < segment if GRADIENT else at >= (length - 1) // segment * segment:
            return
    chunk_from = tl.load(segments + 2) // Q
    n_own = tl.minimum(SEGMENT_CHUNKS, tl.cdiv(length, Q) - chunk_from)
    q, n, p = tl.arange(0, Q), tl.arange(0, N), tl.arange(0, P)
    if LONG and not LOCAL:
        state = earlier_state(
            local_states, local_decays, segments, head, direction, n_pieces, N_HEADS, GRADIENT, SEGMENT_PIECES, N, P
        )
    else:
        state = tl.zeros([N, P], tl.float32)
    kind = read.dtype.element_ty
    plane = start + direction * n_rows.to(tl.int64)
    read += plane * READ_WIDTH + READ_FROM
    values += plane * VALUE_WIDTH + head * P
    index = (direction * n_chunks + tl.load(segments + 3)).to(tl.int64) * N_HEADS + head
    decay += index * Q
    entry += index * Q
    states += index * (N * P)
    passed = 0.0
    for i in range(0, n_own):
        chunk = chunk_from + (n_own - 1 - i if GRADIENT else i)
        place = chunk * Q + q
        inside = place < length
        row = row_of(length, place, reverse)
        lane = chunk * N_HEADS * Q
        through = tl.load(decay + lane + (Q - 1))
        r = tl.load(read + row[:, None] * READ_WIDTH + n[None, :], mask=inside[:, None], other=0.0)
        v = tl.load(values + row[:, None] * VALUE_WIDTH + p[None, :], mask=inside[:, None], other=0.0)
        if not LOCAL:
            leaving = states + chunk * (N_HEADS * N * P) + n[:, None] * P + p[None, :]
            tl.store(leaving, state.to(states.dtype.element_ty))
        if GRADIENT:
            weight = tl.exp2(tl.load(decay + lane + q))
        else:
            weight = tl.exp2(through - tl.load(entry + lane + q))
        weighted = (r.to(tl.float32) * weight[:, None]).to(kind)
        state = tl.dot(tl.trans(weighted), v, acc=state * tl.exp2(through), input_precision=PRECISION)
        passed += through
    if LOCAL:
        number = ((direction * n_pieces + tl.load(segments + 6)) * N_HEADS + head).to(tl.int64)
        tl.store(local_states + number * N * P + n[:, None] * P + p[None, :], state)
        tl.store(local_decays + number, passed)
