"""The scan of Mamba-2 (state-space duality) as matrix products over chunks, with its gradient written out.

With ``a = dt A``, ``s`` its running sum within a chunk, and ``H`` the state that enters the chunk::

    y_i = sum_(j <= i) (C_i . B_j) exp(s_i - s_j) dt_j x_j  +  exp(s_i) C_i . H  +  D x_i
    H'  = exp(s_Q) H + sum_j exp(s_Q - s_j) dt_j B_j (x) x_j

Axes: batch ``b``, tokens ``l`` = chunks ``c`` times tokens of a chunk ``q``, heads ``h``, channels of a head ``p``,
state ``n``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from ._chunks import Chunks

_LOG2_E = math.log2(math.e)


def ssd_chunked(
    x: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    *,
    chunk_size: int,
    seq_idx: torch.Tensor | None = None,
    reverse: bool = False,
) -> torch.Tensor:
    """Scan in one direction, by matrix products over chunks.

    The recurrence is ``h_t = exp(dt_t A) h_(t-1) + dt_t B_t (x) x_t``, read out as ``y_t = C_t h_t + D x_t``.

    Decays and states are float32 or better, matrix products run in the type of ``x``.

    Parameters
    ----------
    x
        Input, ``(b, l, h, p)``.
    dt
        Step sizes, not negative; zero leaves the state as it is. ``(b, l, h)``.
    A
        Negative decay rates, ``(h,)``.
    B, C
        Maps to and from the state, shared by the heads, ``(b, l, n)``.
    D
        Weight of the input itself, ``(h,)``.
    chunk_size
        Largest number of tokens in a chunk.
    seq_idx
        Sequence of each token, not negative, ``(b, l)``; the state starts anew where it changes.
    reverse
        Run from the last token to the first.

    Returns
    -------
    ``(b, l, h, p)``
    """
    length = x.shape[1]
    n_chunks = -(-length // chunk_size)
    # chunks of equal size need the least filling
    q = -(-length // n_chunks)
    fill = n_chunks * q - length
    if fill:
        x, dt, B, C = (F.pad(t, (0, 0) * (t.ndim - 2) + (0, fill)) for t in (x, dt, B, C))
        seq_idx = None if seq_idx is None else F.pad(seq_idx, (0, fill), value=-1)
    accurate = torch.promote_types(x.dtype, torch.float32)
    y = _Scan.apply(x, dt.to(accurate), A.to(accurate), B, C, D.to(accurate), Chunks(q, reverse, seq_idx))
    return y[:, :length] if fill else y


@dataclass(frozen=True, eq=False)
class _Terms:
    """Factors of the matrix products, for each chunk and head.

    Attributes
    ----------
    xdt
        ``dt_j x_j``, ``(b, c, h, q, p)``.
    scores
        ``C_i . B_j`` where ``i`` reads ``j``, zero elsewhere, ``(b, c, 1, q, q)``.
    decay
        ``exp(s_i - s_j)`` where ``i`` reads ``j``, at most 1 elsewhere, ``(b, c, h, q, q)``.
    mix
        Product of both, ``(b, c, h, q, q)``.
    to_token, to_end
        ``exp(s_i)`` and ``exp(s_Q - s_j)``, ``(b, c, h, q, 1)``.
    reading, writing
        ``exp(s_i) C_i`` and ``exp(s_Q - s_j) B_j``, ``(b, c, h, q, n)``.
    through
        ``exp(s_Q)``, ``(b, c, h)``.
    """

    xdt: torch.Tensor
    scores: torch.Tensor
    decay: torch.Tensor
    mix: torch.Tensor
    to_token: torch.Tensor
    to_end: torch.Tensor
    reading: torch.Tensor
    writing: torch.Tensor
    through: torch.Tensor


def _terms(
    x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, chunks: Chunks
) -> _Terms:
    step = chunks.cut(dt)
    # exp2 is several times faster than exp on a CPU
    s = chunks.sum_until(step * (_LOG2_E * A)[:, None])
    to_token, to_end, through = chunks.decays(s)
    to_token, to_end = to_token.unsqueeze(-1), to_end.unsqueeze(-1)
    B, C = chunks.rows(B), chunks.rows(C)
    scores = chunks.hide_(C @ B.mT).unsqueeze(2)
    # s falls along the scan: without the bound, what is hidden would overflow
    decay = (s.unsqueeze(-1) - s.unsqueeze(-2)).clamp_(max=0).exp2_()
    return _Terms(
        xdt=_product(chunks.cut(x), step.unsqueeze(-1), x.dtype),
        scores=scores,
        decay=decay,
        mix=_product(scores, decay, x.dtype),
        to_token=to_token,
        to_end=to_end,
        reading=_product(C.unsqueeze(2), to_token, x.dtype),
        writing=_product(B.unsqueeze(2), to_end, x.dtype),
        through=through,
    )


class _Scan(torch.autograd.Function):
    """Keeps the states between chunks for the gradient; what is larger is computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dt: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        D: torch.Tensor,
        chunks: Chunks,
    ) -> torch.Tensor:
        terms = _terms(x, dt, A, B, C, chunks)
        added = terms.writing.mT @ terms.xdt
        states = chunks.carry(added.to(dt.dtype), terms.through)
        y = terms.mix @ terms.xdt
        _matrices(y).baddbmm_(_matrices(terms.reading), _matrices(states.to(x.dtype)))
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        torch.addcmul(y, chunks.cut(x), D.to(x.dtype)[:, None, None], out=chunks.cut(out))
        ctx.save_for_backward(x, dt, A, B, C, D, states)
        ctx.chunks = chunks
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, dt, A, B, C, D, states = ctx.saved_tensors
        chunks: Chunks = ctx.chunks
        terms = _terms(x, dt, A, B, C, chunks)
        d_y = chunks.cut(grad).contiguous()
        d_leaving = chunks.carry((terms.reading.mT @ d_y).to(dt.dtype), terms.through, gradient=True)
        d_B, d_C, d_a = _decay_gradients(terms, chunks.rows(B), chunks.rows(C), d_y, states, d_leaving, chunks)
        d_xdt = terms.mix.mT @ d_y
        _matrices(d_xdt).baddbmm_(_matrices(terms.writing), _matrices(d_leaving.to(x.dtype)))

        step, cut_x = chunks.cut(dt), chunks.cut(x)
        d_dt = _inner(d_xdt, cut_x).addcmul_(d_a, A[:, None]).transpose(2, 3).flatten(1, 2)
        d_D = _inner(d_y, cut_x).sum((0, 1, 3))
        d_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        torch.mul(d_xdt, step.unsqueeze(-1), out=chunks.cut(d_x))
        chunks.cut(d_x).addcmul_(d_y, D.to(x.dtype)[:, None, None])
        return d_x, d_dt, (d_a * step).sum((0, 1, 3)), d_B, d_C, d_D, None


def _decay_gradients(
    terms: _Terms,
    B: torch.Tensor,
    C: torch.Tensor,
    d_y: torch.Tensor,
    states: torch.Tensor,
    d_leaving: torch.Tensor,
    chunks: Chunks,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of ``B`` and ``C``, ``(b, l, n)``, and of ``a``, ``(b, c, h, q)``."""
    pairs = (d_y @ terms.xdt.mT).to(terms.decay.dtype).mul_(terms.decay)
    d_scores = chunks.hide_(pairs.sum(2)).to(d_y.dtype)
    pairs.mul_(terms.scores)
    read = (d_y @ states.to(d_y.dtype).mT).to(states.dtype).mul_(terms.to_token)
    written = (terms.xdt @ d_leaving.to(d_y.dtype).mT).to(states.dtype).mul_(terms.to_end)
    d_C, d_B = read.sum(2), written.sum(2)
    d_C += d_scores @ B
    d_B += d_scores.mT @ C
    # Products of values and their gradients are the gradients of the logarithms of their decays. The rows and the
    # columns of one matrix cancel to the last bit, where <d_y, y> - <d_xdt, xdt> would not in half precision.
    d_to_end = written.mul_(B.unsqueeze(2)).sum(-1)
    d_s = pairs.sum(-1).sub_(pairs.sum(-2)).add_(read.mul_(C.unsqueeze(2)).sum(-1)).sub_(d_to_end)
    d_end = d_to_end.sum(-1) + terms.through * (d_leaving * states).sum((-1, -2))
    d_a = chunks.sum_from(d_s) + d_end.unsqueeze(-1)
    return d_B.flatten(1, 2).to(B.dtype), d_C.flatten(1, 2).to(C.dtype), d_a


def _product(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Multiply into a contiguous tensor, whatever the strides of the factors."""
    out = torch.empty(torch.broadcast_shapes(a.shape, b.shape), dtype=dtype, device=a.device)
    return torch.mul(a, b, out=out)


def _inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Inner products over the last axis, in float32 or better."""
    return (a.to(torch.promote_types(a.dtype, torch.float32)) * b).sum(-1)


def _matrices(x: torch.Tensor) -> torch.Tensor:
    """View ``(..., i, j)`` as ``(m, i, j)``."""
    return x.flatten(0, -3)
