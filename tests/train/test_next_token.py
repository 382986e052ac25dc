"""Next and previous genes: what each state may know, and what the loss is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scgenemamba.nn import GeneMambaConfig, GeneMambaNetwork, TokenHead
from scgenemamba.train import LeakyNextToken, NextToken, PreviousToken

LENGTHS = [5, 0, 1, 9]
FUSIONS = ["mean", "sum", "gate", "concat", "alternate"]


def make_network(fusion="mean", **options):
    torch.manual_seed(0)
    config = GeneMambaConfig(n_tokens=20, d_model=32, n_layers=2, d_state=16, n_latent=6, fusion=fusion, **options)
    return GeneMambaNetwork(config, "torch")


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    cells = [torch.randperm(17, generator=generator)[:n] + 2 for n in LENGTHS]
    return {"tokens": torch.cat(cells).int(), "cu_seqlens": torch.tensor([0, *np.cumsum(LENGTHS)])}


def encode(network, batch, reading):
    return network(batch["tokens"], batch["cu_seqlens"], reading=reading)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("kind", "step"), [(NextToken, 1), (PreviousToken, -1)])
def test_no_state_knows_of_the_gene_that_it_predicts(batch, fusion, kind, step):
    """Exchange the target gene, and all beyond it: the logits stay, in every position."""
    network = make_network(fusion)
    objective = kind(TokenHead(32, 20, tied=network.encoder.embeddings.weight))
    start, end = 6, 15
    for target in range(start + 1, end) if step == 1 else range(start, end - 1):
        changed = batch["tokens"].clone()
        beyond = slice(target, end) if step == 1 else slice(start, target + 1)
        changed[beyond] = torch.where(changed[beyond] == 3, 4, 3)
        states = [encode(network, {**batch, "tokens": t}, objective.reads).hidden for t in (batch["tokens"], changed)]
        logits = [objective.head(state[target - step]) for state in states]
        assert torch.equal(*logits)
        # while the state reads the genes up to its own place
        own = batch["tokens"].clone()
        own[target - step] = 2 if int(own[target - step]) != 2 else 3
        assert not torch.allclose(
            logits[0], objective.head(encode(network, {**batch, "tokens": own}, objective.reads).hidden[target - step])
        )


def test_the_published_loss_leaks(batch):
    network = make_network()
    head = TokenHead(32, 20, tied=network.encoder.embeddings.weight)
    changed = batch["tokens"].clone()
    changed[8] = 3 if int(changed[8]) != 3 else 4
    states = [encode(network, {**batch, "tokens": t}, "both").hidden for t in (batch["tokens"], changed)]
    assert LeakyNextToken.reads == "clean"
    assert not torch.allclose(head(states[0][7]), head(states[1][7]), atol=1e-6)


@pytest.mark.parametrize("kind", [NextToken, PreviousToken, LeakyNextToken])
def test_the_loss_is_the_mean_cross_entropy_of_neighbours(batch, kind):
    network = make_network()
    objective = kind(TokenHead(32, 20, tied=network.encoder.embeddings.weight), weight=2.0)
    encoded = encode(network, batch, "both" if objective.reads == "clean" else objective.reads)
    logits, tokens = objective.head(encoded.hidden), batch["tokens"].long()
    pairs = [(i, i + 1) for start, end in ((0, 5), (6, 15)) for i in range(start, end - 1)]
    if kind is PreviousToken:
        pairs = [(b, a) for a, b in pairs]
    source, target = map(list, zip(*pairs, strict=True))
    (value,) = objective.loss(batch, encoded).values()
    torch.testing.assert_close(value, 2 * F.cross_entropy(logits[source], tokens[target]))


def test_cells_of_one_gene_have_nothing_to_predict():
    network = make_network()
    batch = {"tokens": torch.tensor([4, 5]).int(), "cu_seqlens": torch.tensor([0, 1, 1, 2])}
    objective = NextToken(TokenHead(32, 20))
    (value,) = objective.loss(batch, encode(network, batch, "ahead")).values()
    assert value == 0
    value.backward()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_reading_one_way_does_not_depend_on_how_cells_are_cut(batch, fusion):
    network = make_network(fusion).eval()
    for reading in ("ahead", "back"):
        whole = encode(network, batch, reading).hidden
        packed = network.encoder(batch["tokens"], batch["cu_seqlens"], reading=reading, packed=True)
        torch.testing.assert_close(whole, packed, atol=1e-5, rtol=1e-4)
        network.encoder.recompute = True
        torch.testing.assert_close(encode(network, batch, reading).hidden, whole)
        network.encoder.recompute = False
        alone = {"tokens": batch["tokens"][6:], "cu_seqlens": torch.tensor([0, 9])}
        torch.testing.assert_close(encode(network, alone, reading).hidden, whole[6:], atol=1e-5, rtol=1e-4)


def test_back_is_ahead_of_the_reversed_cell():
    network = make_network()
    tokens = torch.arange(2, 12).int()
    bounds = torch.tensor([0, 10])
    ahead = network.encoder(tokens, bounds, reading="ahead")
    back = network.encoder(tokens.flip(0), bounds, reading="back")
    torch.testing.assert_close(back.flip(0), ahead, atol=1e-5, rtol=1e-4)
