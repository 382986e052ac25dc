from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import GeneMambaConfig, GeneMambaNetwork

LENGTHS = [4, 0, 9]
CU_SEQLENS = torch.tensor([0, 4, 4, 13])
TOKENS = torch.arange(13, dtype=torch.int32) + 2
SIZES = {"n_tokens": 20, "d_model": 32, "d_state": 8, "n_latent": 5}


def test_parts_fit_together():
    network = GeneMambaNetwork(GeneMambaConfig(**SIZES))
    masked = torch.zeros(13, dtype=torch.bool)
    masked[[1, 6]] = True
    encoded = network(TOKENS, CU_SEQLENS, masked)
    assert encoded.hidden.shape == (13, 32)
    assert encoded.tokens is TOKENS
    assert encoded.masked is masked
    assert torch.equal(encoded.hidden, network.encoder(TOKENS, CU_SEQLENS, masked))
    # hidden tokens are left out of the pooling
    assert torch.equal(encoded.pooled, network.pooling(encoded.hidden, CU_SEQLENS, ~masked))
    assert torch.equal(encoded.pooled[1], torch.zeros(64))
    assert encoded.mean.shape == encoded.variance.shape == (3, 5)
    assert bool((encoded.variance > 0).all())


def test_the_latent_reaches_every_parameter():
    network = GeneMambaNetwork(GeneMambaConfig(**SIZES, fusion="gate"))
    masked = torch.zeros(13, dtype=torch.bool)
    masked[1] = True
    encoded = network(TOKENS, CU_SEQLENS, masked)
    (encoded.mean.sum() + encoded.variance.sum()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@pytest.mark.parametrize("masked", [None, torch.arange(13) % 5 == 1])
def test_cls_is_put_before_each_cell(masked):
    network = GeneMambaNetwork(GeneMambaConfig(**SIZES, pooling=("cls", "mean")))
    encoded = network(TOKENS, CU_SEQLENS, masked)
    assert encoded.cu_seqlens.tolist() == [0, 5, 6, 16]
    is_cls = torch.zeros(16, dtype=torch.bool)
    is_cls[[0, 5, 6]] = True
    assert torch.equal(encoded.tokens == 19, is_cls)
    assert torch.equal(encoded.tokens[~is_cls], TOKENS)
    keep = ~is_cls
    if masked is None:
        assert encoded.masked is None
    else:
        assert torch.equal(encoded.masked[~is_cls], masked)
        assert not bool(encoded.masked[is_cls].any())
        keep &= ~encoded.masked
    assert torch.equal(encoded.hidden, network.encoder(encoded.tokens, encoded.cu_seqlens, encoded.masked))
    assert torch.equal(encoded.pooled[:, :32], encoded.hidden[is_cls])
    # the mean is over genes only
    expected = encoded.hidden[:5][keep[:5]].mean(0)
    torch.testing.assert_close(encoded.pooled[0, 32:], expected)
    assert torch.equal(encoded.pooled[1, 32:], torch.zeros(32))


def test_weights_can_be_saved_and_read():
    config = GeneMambaConfig(**SIZES)
    network, other = GeneMambaNetwork(config), GeneMambaNetwork(config)
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(TOKENS, CU_SEQLENS).mean, other(TOKENS, CU_SEQLENS).mean)


@pytest.mark.parametrize("pooling", [("mean",), ("cls", "mean")])
@pytest.mark.parametrize("flip", ["masked", "full"])
def test_vectors_can_be_given_in_place_of_tokens(pooling, flip):
    network = GeneMambaNetwork(GeneMambaConfig(**SIZES, pooling=pooling, flip=flip, max_tokens=9))
    masked = torch.arange(13) % 5 == 1
    own = network.encoder.embed(TOKENS, masked)
    given = network(TOKENS, CU_SEQLENS, masked, embedded=own)
    torch.testing.assert_close(given.mean, network(TOKENS, CU_SEQLENS, masked).mean)
    assert not torch.allclose(network(TOKENS, CU_SEQLENS, masked, embedded=2 * own).mean, given.mean)
