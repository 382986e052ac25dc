from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import BiMambaBlock, GeneMambaConfig, Packed, Padded, resolve_backend
from scgenemamba.nn._fusion import make_aggregator

from .oracle import block_forward, difference, mixer_forward, shake

LENGTHS = [7, 1, 10]
BACKEND = resolve_backend("torch", torch.device("cpu"))
SIZES = {"n_tokens": 10, "d_model": 16, "headdim": 8, "d_state": 6, "chunk_size": 4}


def make(fusion, pre_norm, shared):
    config = GeneMambaConfig(**SIZES, fusion=fusion, pre_norm=pre_norm, shared_aggregator=shared)
    block = shake(BiMambaBlock(config).double())
    own = block.aggregator
    outside = shake(make_aggregator(16).double()) if shared and fusion in ("gate", "concat") else None
    assert (own is None) == (shared or fusion in ("mean", "sum"))
    return block, own if outside is None else outside, outside


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("fusion", ["mean", "sum", "gate", "concat"])
def test_shared_projections_equal_two_whole_passes(fusion, pre_norm, shared):
    block, aggregator, outside = make(fusion, pre_norm, shared)
    parts = [torch.randn(n, 16, dtype=torch.float64, requires_grad=True) for n in LENGTHS]
    parameters = [*block.parameters(), *([] if outside is None else outside.parameters()), *parts]
    expected = torch.cat([block_forward(block, part, fusion, aggregator) for part in parts])
    wanted = torch.autograd.grad(expected.sin().sum(), parameters)

    padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=3.0)
    out = block(padded, Padded(torch.tensor(LENGTHS), 10), BACKEND, outside)
    padded_out = torch.cat([row[:n] for row, n in zip(out, LENGTHS, strict=True)])
    packed_out = block(torch.cat(parts), Packed(torch.tensor([0, 7, 8, 18])), BACKEND, outside)
    for got in (padded_out, packed_out):
        assert difference(got, expected) < 1e-12
        grads = torch.autograd.grad(got.sin().sum(), parameters)
        assert max(difference(a, b) for a, b in zip(grads, wanted, strict=True)) < 1e-11


def test_a_missing_aggregator_is_named():
    block, _, _ = make("gate", True, True)
    with pytest.raises(ValueError, match="needs an aggregator"):
        block(torch.randn(1, 3, 16, dtype=torch.float64), Padded(torch.tensor([3]), 3), BACKEND)


@pytest.mark.parametrize("index", [0, 1])
def test_alternate_layers_are_one_direction_of_the_bidirectional_layer(index):
    config = GeneMambaConfig(**SIZES, fusion="alternate")
    block = shake(BiMambaBlock(config, index).double())
    parts = [torch.randn(n, 16, dtype=torch.float64, requires_grad=True) for n in LENGTHS]
    parameters = [*block.parameters(), *parts]
    turn = (lambda x: x.flip(0)) if index else (lambda x: x)
    assert block.norm is not None
    normed = [block.norm(part) for part in parts]
    expected = torch.cat([p + turn(mixer_forward(block.mixer, turn(n))) for p, n in zip(parts, normed, strict=True)])
    got = block(torch.cat(parts), Packed(torch.tensor([0, 7, 8, 18])), BACKEND)
    assert difference(got, expected) < 1e-12
    wanted = torch.autograd.grad(expected.sin().sum(), parameters)
    grads = torch.autograd.grad(got.sin().sum(), parameters)
    assert max(difference(a, b) for a, b in zip(grads, wanted, strict=True)) < 1e-11
