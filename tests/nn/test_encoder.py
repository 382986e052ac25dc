from __future__ import annotations

import copy
from itertools import product

import pytest
import torch

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig

from .oracle import difference, encoder_forward, shake

LENGTHS = [30, 0, 7, 45, 1, 30, 0]
CU_SEQLENS = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0).tolist()])
CONFIG = GeneMambaConfig(n_tokens=40, d_model=32, headdim=16, d_state=8, chunk_size=16)


@pytest.fixture
def tokens():
    return torch.randint(0, 40, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


@pytest.fixture
def encoder():
    return shake(BiMambaEncoder(CONFIG))


def alone(encoder, tokens, **kwargs):
    return torch.cat([encoder(t, torch.tensor([0, len(t)]), **kwargs) for t in tokens.split(LENGTHS) if len(t)])


@pytest.mark.parametrize("fusion", ["mean", "sum", "gate", "concat"])
@pytest.mark.parametrize("shared", [False, True])
def test_equals_the_written_down_encoder(tokens, fusion, shared):
    config = GeneMambaConfig(**{**CONFIG.to_dict(), "fusion": fusion, "shared_aggregator": shared})
    encoder = shake(BiMambaEncoder(config).double())
    expected = torch.cat([encoder_forward(encoder, t, fusion) for t in tokens.split(LENGTHS) if len(t)])
    for packed in (False, True):
        assert difference(encoder(tokens, CU_SEQLENS, packed=packed), expected) < 1e-12


def test_the_gradients_are_those_of_the_written_down_encoder(tokens):
    encoder = shake(BiMambaEncoder(CONFIG).double())
    parameters = [p for name, p in encoder.named_parameters() if name != "mask_embedding"]
    expected = torch.cat([encoder_forward(encoder, t) for t in tokens.split(LENGTHS) if len(t)])
    wanted = torch.autograd.grad(expected.sin().sum(), parameters)
    encoder.piece_tokens = 64
    for packed, encoder.recompute in product((False, True), repeat=2):
        got = torch.autograd.grad(encoder(tokens, CU_SEQLENS, packed=packed).sin().sum(), parameters)
        assert max(difference(a, b) for a, b in zip(got, wanted, strict=True)) < 1e-11


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("piece_tokens", [1, 50, 90, 10_000])
def test_a_cell_does_not_depend_on_its_batch(encoder, tokens, piece_tokens, packed):
    expected = alone(encoder, tokens)
    encoder.piece_tokens = piece_tokens
    assert difference(encoder(tokens, CU_SEQLENS, packed=packed), expected) < 1e-5


@pytest.mark.parametrize("width", [45, 46, 64, 100])
def test_a_cell_does_not_depend_on_its_padding(encoder, tokens, width):
    expected = alone(encoder, tokens)
    padded = torch.full((len(LENGTHS), width), 3, dtype=torch.int32)
    for row, part in zip(padded, tokens.split(LENGTHS), strict=True):
        row[: len(part)] = part
    hidden = encoder.forward_padded(padded, torch.tensor(LENGTHS))
    got = torch.cat([row[:n] for row, n in zip(hidden, LENGTHS, strict=True)])
    assert difference(got, expected) < 1e-5


def test_padding_is_not_read_at_all(encoder, tokens):
    """Not even by rounding errors, and without a gradient."""
    padded = torch.stack([tokens[:20], tokens[30:50]])
    lengths = torch.tensor([20, 13])
    hidden = encoder.forward_padded(padded, lengths)
    padded[1, 13:] = (padded[1, 13:] + 1) % 40
    assert torch.equal(encoder.forward_padded(padded, lengths)[1, :13], hidden[1, :13])


def test_order_matters_to_every_token(encoder, tokens):
    """Fails for a backbone that maps each token on its own."""
    cell = tokens[:30]
    hidden = encoder(cell, torch.tensor([0, 30]))
    swapped = cell.clone()
    swapped[[3, 20]] = cell[[20, 3]]
    assert int(swapped[3]) != int(cell[3])
    changed = (encoder(swapped, torch.tensor([0, 30])) - hidden).abs().amax(1)
    assert float(changed.detach().min()) > 1e-4


@pytest.mark.parametrize("packed", [False, True])
def test_both_directions_are_read(encoder, tokens, packed):
    hidden = encoder(tokens, CU_SEQLENS, packed=packed)
    for position, other in ((0, 29), (29, 0)):
        changed = tokens.clone()
        changed[position] = (changed[position] + 1) % 40
        difference_ = (encoder(changed, CU_SEQLENS, packed=packed) - hidden).detach().abs().amax(1)
        assert float(difference_[other]) > 1e-5
        # and no other cell; packed ones share chunks, and so the rounding of their decays
        assert float(difference_[30:].max()) <= (1e-5 if packed else 0)


def test_masked_tokens_are_hidden(encoder, tokens):
    masked = torch.zeros(len(tokens), dtype=torch.bool)
    masked[[2, 40]] = True
    hidden = encoder(tokens, CU_SEQLENS, masked)
    other = tokens.clone()
    other[masked] = (other[masked] + 5) % 40
    assert torch.equal(encoder(other, CU_SEQLENS, masked), hidden)
    assert not torch.allclose(encoder(tokens, CU_SEQLENS), hidden)
    assert difference(encoder(tokens, CU_SEQLENS, masked, packed=True), hidden) < 1e-5
    grads = torch.autograd.grad(hidden.sum(), [encoder.mask_embedding])
    assert bool(grads[0].any())


def test_no_tokens_at_all(encoder):
    for packed in (False, True):
        hidden = encoder(torch.empty(0, dtype=torch.int32), torch.tensor([0, 0, 0]), packed=packed)
        assert hidden.shape == (0, 32)
        hidden.sum().backward()


def test_wrong_bounds_are_named(encoder, tokens):
    with pytest.raises(ValueError, match="cu_seqlens ends at 112, but there are 113 tokens"):
        encoder(tokens, CU_SEQLENS - 1)


def test_names_of_the_parameters():
    gate = GeneMambaConfig(n_tokens=40, d_model=32, fusion="gate", n_layers=2)
    names = set(BiMambaEncoder(gate).state_dict())
    assert {"embeddings.weight", "mask_embedding", "norm_f.weight", "layers.0.norm.weight"} <= names
    assert {"layers.1.mixer.in_proj.weight", "layers.0.aggregator.weight", "layers.1.aggregator.bias"} <= names
    shared = GeneMambaConfig(n_tokens=40, d_model=32, fusion="gate", pre_norm=False, shared_aggregator=True)
    names = set(BiMambaEncoder(shared).state_dict())
    assert [name for name in sorted(names) if "aggregator" in name] == ["aggregator.bias", "aggregator.weight"]
    assert "layers.0.norm.weight" not in names


def test_copies_are_independent(encoder, tokens):
    twin = copy.deepcopy(encoder)
    with torch.no_grad():
        twin.layers[0].mixer.D.zero_()
    assert not torch.equal(twin(tokens, CU_SEQLENS), encoder(tokens, CU_SEQLENS))


def test_autocast_stays_close(encoder, tokens):
    exact = encoder(tokens, CU_SEQLENS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = encoder(tokens, CU_SEQLENS)
    assert hidden.dtype == torch.bfloat16
    assert difference(hidden, exact) < 5e-2
    hidden.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in encoder.parameters())
