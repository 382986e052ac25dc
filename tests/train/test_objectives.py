"""Each objective does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scvi.distributions import NegativeBinomial

from scgenemamba.nn import Classifier, Encoded, GeneMambaConfig, GeneMambaNetwork, GeneReadout, TokenHead
from scgenemamba.train import CellRandom, CellType, CountsGivenBatch, GeneMambaTrainingPlan, MaskedGenes

CONFIG = GeneMambaConfig(n_tokens=20, d_model=32, n_layers=2, d_state=16, n_latent=6)
LENGTHS = [5, 0, 9]


@pytest.fixture
def network():
    return GeneMambaNetwork(CONFIG)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    cells = [torch.randperm(18, generator=generator)[:n] + 2 for n in LENGTHS]
    return {
        "tokens": torch.cat(cells).int(),
        "cu_seqlens": torch.tensor([0, *np.cumsum(LENGTHS)]),
        "cell": torch.tensor([7, 8, 9]),
        "expression": torch.poisson(torch.full((3, 10), 2.0), generator=generator),
        "batch": torch.tensor([[0], [1], [1]]),
        "labels": torch.tensor([[0], [2], [1]]),
    }


def encode(network, batch, masked=None) -> Encoded:
    return network(batch["tokens"], batch["cu_seqlens"], masked)


def test_masked_genes_do_not_leak(network, batch):
    """Exchanging a hidden gene for another leaves its logits unchanged, at every position."""
    head = TokenHead(CONFIG.d_model, CONFIG.n_tokens, tied=network.encoder.embeddings.weight)
    for position in range(sum(LENGTHS)):
        masked = torch.zeros(sum(LENGTHS), dtype=torch.bool)
        masked[position] = True
        logits = []
        for gene in (3, 15):
            tokens = batch["tokens"].clone()
            tokens[position] = gene
            logits.append(head(encode(network, {**batch, "tokens": tokens}, masked).hidden[position]))
        assert torch.equal(logits[0], logits[1])
        # and it does read the other genes of the cell
        other = batch["tokens"].clone()
        neighbour = position + 1 if position + 1 not in (5, 14) else position - 1
        other[neighbour] = 2 if int(other[neighbour]) != 2 else 3
        changed = head(encode(network, {**batch, "tokens": other}, masked).hidden[position])
        assert not torch.allclose(logits[0], changed, atol=1e-7)


def test_masked_loss_is_cross_entropy_of_the_hidden_genes_only(network, batch):
    head = TokenHead(CONFIG.d_model, CONFIG.n_tokens, tied=network.encoder.embeddings.weight)
    objective = MaskedGenes(head, mask_rate=0.4, weight=2.0)
    masked = objective.prepare(batch, CellRandom(0, 1))
    encoded = encode(network, batch, masked)
    expected = F.cross_entropy(head(encoded.hidden)[masked], batch["tokens"].long()[masked])
    torch.testing.assert_close(objective.loss(batch, encoded)["masked_genes"], 2 * expected)


def test_masks_belong_to_cells_not_batches(network, batch):
    objective = MaskedGenes(TokenHead(CONFIG.d_model, CONFIG.n_tokens), mask_rate=0.5)
    masked = objective.prepare(batch, CellRandom(3, 1))
    alone = {
        "tokens": batch["tokens"][5:],
        "cu_seqlens": torch.tensor([0, 9]),
        "cell": batch["cell"][2:],
    }
    assert torch.equal(objective.prepare(alone, CellRandom(3, 1)), masked[5:])
    assert not torch.equal(objective.prepare(batch, CellRandom(3, 2)), masked)
    assert not torch.equal(objective.prepare(batch, CellRandom(4, 1)), masked)


def test_cell_random_is_uniform_and_uncorrelated():
    cell = torch.arange(200).repeat_interleave(100)
    position = torch.arange(100).repeat(200)
    u = CellRandom(0, 0).uniform(cell, position)
    assert 0 <= float(u.min())
    assert float(u.max()) < 1
    histogram = torch.histc(u, 20, 0, 1) / len(u)
    assert float((histogram - 0.05).abs().max()) < 0.006
    grid = u.view(200, 100) - 0.5
    for a, b in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1])):
        assert abs(float((a * b).mean() * 12)) < 0.03
    assert abs(float(((u - 0.5) * (CellRandom(0, 1).uniform(cell, position) - 0.5)).mean() * 12)) < 0.03


def test_no_hidden_gene_gives_zero_loss(network, batch):
    objective = MaskedGenes(TokenHead(CONFIG.d_model, CONFIG.n_tokens), mask_rate=0.0)
    loss = objective.loss(batch, encode(network, batch, objective.prepare(batch, CellRandom(0, 0))))
    assert float(loss["masked_genes"]) == 0


def test_count_loss_is_the_negative_elbo(network, batch, monkeypatch):
    objective = CountsGivenBatch(CONFIG.n_latent, 10, 2, kl_weight=0.5).eval()
    encoded = encode(network, batch)
    # without sampling noise the loss can be written down
    monkeypatch.setattr(torch.distributions.Normal, "rsample", lambda self, *_: self.mean)
    losses = objective.loss(batch, encoded)
    library = batch["expression"].sum(1, keepdim=True).log()
    _, _, rate, _ = objective.decoder("gene", encoded.mean, library, batch["batch"])
    torch.testing.assert_close(rate.sum(1), batch["expression"].sum(1))
    likelihood = NegativeBinomial(mu=rate, theta=torch.ones(10)).log_prob(batch["expression"]).sum(1)
    torch.testing.assert_close(losses["reconstruction_loss"], -likelihood.mean())
    kl = 0.5 * (encoded.variance + encoded.mean**2 - 1 - encoded.variance.log()).sum(1)
    torch.testing.assert_close(losses["kl"], 0.5 * kl.mean())


def test_decoder_reads_the_batch_and_the_encoder_does_not(network, batch):
    objective = CountsGivenBatch(CONFIG.n_latent, 10, 2)
    other = {**batch, "batch": 1 - batch["batch"]}
    torch.manual_seed(0)
    a = objective.loss(batch, encode(network, batch))["reconstruction_loss"]
    torch.manual_seed(0)
    b = objective.loss(other, encode(network, other))["reconstruction_loss"]
    assert float(a) != float(b)
    assert torch.equal(encode(network, batch).mean, encode(network, other).mean)


def test_normal_likelihood_does_not_see_library_size(network, batch):
    objective = CountsGivenBatch(CONFIG.n_latent, 10, 2, likelihood="normal")
    losses = []
    for factor in (1.0, 3.0):
        torch.manual_seed(0)
        scaled = {**batch, "expression": batch["expression"] * factor}
        losses.append(objective.loss(scaled, encode(network, batch))["reconstruction_loss"])
    torch.testing.assert_close(losses[0], losses[1])


def test_only_labelled_cells_are_classified(network, batch):
    objective = CellType(Classifier(CONFIG.n_latent, 2), GeneReadout(CONFIG.n_tokens, 2))
    encoded = encode(network, batch)
    expected = sum(F.cross_entropy(logits[[0, 2]], torch.tensor([0, 1])) for logits in objective.logits(encoded))
    torch.testing.assert_close(objective.loss(batch, encoded)["cell_type"], expected)
    unlabelled = {**batch, "labels": torch.full((3, 1), 2)}
    assert float(objective.loss(unlabelled, encoded)["cell_type"]) == 0


@pytest.mark.parametrize("detached", [False, True])
def test_detached_classifier_leaves_the_encoder_alone(network, batch, detached):
    objective = CellType(Classifier(CONFIG.n_latent, 2), GeneReadout(CONFIG.n_tokens, 2), detached=detached)
    objective.loss(batch, encode(network, batch))["cell_type"].backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in network.parameters()]
    assert any(reached) is not detached
    assert all(p.grad is not None for p in objective.parameters())


def test_gene_readout_is_linear_in_rank_weighted_genes(batch):
    readout = GeneReadout(CONFIG.n_tokens, 3)
    torch.nn.init.normal_(readout.weight)
    masked = torch.rand(sum(LENGTHS)) < 0.3
    features = torch.zeros(3, CONFIG.n_tokens)
    for cell, (start, stop) in enumerate(zip(batch["cu_seqlens"][:-1], batch["cu_seqlens"][1:], strict=True)):
        for place, position in enumerate(range(int(start), int(stop))):
            if not masked[position]:
                features[cell, int(batch["tokens"][position])] += 1 - place / int(stop - start)
    expected = 10 * (features @ readout.weight + readout.bias)
    torch.testing.assert_close(readout(batch["tokens"], batch["cu_seqlens"], masked), expected)


class Reading(torch.nn.Module):
    """A module that keeps what it is asked to encode."""

    def __init__(self, network, objective):
        super().__init__()
        self.network = network
        self.objectives = torch.nn.ModuleDict({"masked_genes": objective})

    def truncate(self, batch):
        return batch

    def encode(self, batch, masked=None, reading="both"):
        self.read = batch["tokens"].clone(), masked
        return self.network(batch["tokens"], batch["cu_seqlens"], masked, reading)


def test_hidden_genes_behind_the_others_are_not_given_away_by_their_neighbours(network, batch):
    head = TokenHead(CONFIG.d_model, CONFIG.n_tokens)
    losses = []
    for place in (0, 2, 4):
        # the first cell has its hidden gene at another place, and its other genes in the same order
        others = [3, 5, 7, 11]
        tokens = batch["tokens"].clone()
        tokens[:5] = torch.tensor([*others[:place], 13, *others[place:]], dtype=torch.int32)
        objective = MaskedGenes(head, last=True)
        objective.prepare = lambda cells, random, place=place: torch.arange(14) == place
        module = Reading(network, objective)
        named, _ = GeneMambaTrainingPlan(module).losses({**batch, "tokens": tokens}, CellRandom(0, 0))
        read, masked = module.read
        assert read[:5].tolist() == [*others, 13]
        assert masked.nonzero().flatten().tolist() == [4]
        assert torch.equal(read[5:], tokens[5:])
        losses.append(float(named["masked_genes"].detach()))
    assert losses[0] == losses[1] == losses[2] > 0


def test_moved_tokens_stay_in_their_cells(batch):
    from scgenemamba.train._plan import move_last

    masked = torch.tensor([1, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0], dtype=torch.bool)
    moved, hidden = move_last(batch, masked)
    tokens = batch["tokens"]
    assert (
        moved["tokens"].tolist()
        == torch.cat([tokens[i] for i in ([1, 3, 4, 0, 2], [5, 7, 8, 10, 11, 12, 13, 6, 9])]).tolist()
    )
    assert hidden.nonzero().flatten().tolist() == [3, 4, 12, 13]
