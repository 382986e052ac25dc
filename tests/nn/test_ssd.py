from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import ssd_chunked

from .oracle import difference, recurrence

NAMES = ["x", "dt", "A", "B", "C", "D"]
LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5}


def inputs(rows: int, length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Inputs of two heads, one that remembers and one that forgets within a few tokens."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dt = torch.nn.functional.softplus(normal(rows, length, 2) - 1)
    tensors = [normal(rows, length, 2, 3), dt, torch.tensor([-0.1, -8.0], dtype=torch.float64)]
    tensors += [normal(rows, length, 5), normal(rows, length, 5), normal(2)]
    return [t.to(dtype).requires_grad_() for t in tensors]


def slowly(x, dt, A, B, C, D, lengths=None, reverse=False):
    """The recurrence of each sequence on its own; ``lengths`` are those of packed sequences."""
    rows = []
    for i in range(len(x)):
        parts = []
        for part in zip(*[t[i].split(lengths or [x.shape[1]]) for t in (x, dt, B, C)], strict=True):
            x_, dt_, B_, C_ = [t.flip(0) for t in part] if reverse else part
            y = recurrence(x_, dt_, A, B_, C_, D)
            parts.append(y.flip(0) if reverse else y)
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def compare(tensors, chunk_size, dtype, lengths=None, reverse=False):
    """Outputs and all gradients against the recurrence in float64."""
    exact = [t.detach().double().requires_grad_() for t in tensors]
    expected = slowly(*exact, lengths=lengths, reverse=reverse)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = torch.autograd.grad((expected * weight).sum(), exact)
    seq_idx = None
    if lengths:
        seq_idx = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand(len(tensors[0]), -1)
    y = ssd_chunked(*tensors, chunk_size=chunk_size, seq_idx=seq_idx, reverse=reverse)
    got = torch.autograd.grad((y * weight.to(dtype)).sum(), tensors)
    assert y.dtype == dtype
    assert difference(y, expected) < LIMITS[dtype]
    for name, a, b in zip(NAMES, got, wanted, strict=True):
        assert difference(a, b) < LIMITS[dtype], name


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize(("length", "chunk_size"), [(1, 16), (7, 16), (16, 16), (33, 16), (50, 4), (50, 1), (40, 64)])
def test_equals_the_recurrence(length, chunk_size, dtype, reverse):
    compare(inputs(2, length, dtype), chunk_size, dtype, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("chunk_size", [4, 8, 16, 64])
@pytest.mark.parametrize("lengths", [[1, 1, 20, 3], [8, 8, 8], [30, 2], [5, 40, 1], [11]])
def test_packed_sequences_equal_the_recurrence_of_each(lengths, chunk_size, dtype, reverse):
    compare(inputs(1, sum(lengths), dtype), chunk_size, dtype, lengths=lengths, reverse=reverse)


def test_steep_decays_do_not_overflow():
    """The upper triangle of the decays would be infinite, and their gradient not a number."""
    tensors = inputs(1, 64, torch.float32)
    with torch.no_grad():
        tensors[1].mul_(50)
    y = ssd_chunked(*tensors, chunk_size=32)
    grads = torch.autograd.grad(y.sum(), tensors)
    assert all(bool(t.isfinite().all()) for t in (y, *grads))


def test_half_precision_keeps_decays_in_float32():
    tensors = inputs(1, 64, torch.float64)
    exact = ssd_chunked(*tensors, chunk_size=16)
    x, dt, A, B, C, D = (t.detach() for t in tensors)
    y = ssd_chunked(x.bfloat16(), dt.float(), A.float(), B.bfloat16(), C.bfloat16(), D.float(), chunk_size=16)
    assert y.dtype == torch.bfloat16
    assert difference(y.double(), exact) < 2e-2
