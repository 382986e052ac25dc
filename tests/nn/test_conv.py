from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scgenemamba.nn._conv import causal_conv_silu

from .oracle import convolution, difference


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 9, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 1, 4, generator=generator, dtype=torch.float64)
    return x, weight, torch.randn(5, generator=generator, dtype=torch.float64)


def test_equals_conv1d(case):
    x, weight, bias = case
    expected = F.silu(F.conv1d(x.transpose(1, 2), weight, bias, padding=3, groups=5)[..., :9].transpose(1, 2))
    assert difference(causal_conv_silu(x, weight, bias), expected) < 1e-14


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_equals_the_loop(case, reverse, length):
    x, weight, bias = case
    x = x[:, :length]
    sequences = x.flip(1) if reverse else x
    expected = torch.stack([convolution(row, weight, bias) for row in sequences])
    expected = expected.flip(1) if reverse else expected
    assert difference(causal_conv_silu(x, weight, bias, reverse=reverse), expected) < 1e-14


@pytest.mark.parametrize("reverse", [False, True])
def test_packed_sequences_do_not_read_each_other(case, reverse):
    x, weight, bias = case
    x = x[:1]
    seq_idx = torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2, 2]])
    parts = [part.flip(0) if reverse else part for part in x[0].split([3, 1, 5])]
    done = [convolution(part, weight, bias) for part in parts]
    expected = torch.cat([part.flip(0) if reverse else part for part in done])[None]
    assert difference(causal_conv_silu(x, weight, bias, seq_idx=seq_idx, reverse=reverse), expected) < 1e-14


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("seq_idx", [None, torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2, 2]] * 2)])
def test_gradients(case, reverse, seq_idx):
    inputs = [t.requires_grad_() for t in case]
    assert torch.autograd.gradcheck(lambda *a: causal_conv_silu(*a, seq_idx=seq_idx, reverse=reverse), inputs)
