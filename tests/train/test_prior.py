"""The mixture prior of the latent."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from scgenemamba.nn import Encoded
from scgenemamba.train import CountsGivenBatch, MixturePrior


def standard(n_latent):
    """Mixture whose components are all the standard normal distribution."""
    prior = MixturePrior(n_latent)
    prior.load_state_dict({})
    return prior


def encoded(mean, variance):
    none = torch.zeros(0)
    return Encoded(none, none, none, None, none, mean, variance)


def test_density_is_that_of_torch():
    torch.manual_seed(0)
    prior = MixturePrior(3, n_components=5)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter)
    components = Independent(Normal(prior.means, prior.log_scales.exp()), 1)
    expected = MixtureSameFamily(Categorical(logits=prior.log_weights), components)
    z = torch.randn(7, 3)
    torch.testing.assert_close(prior.log_prob(z), expected.log_prob(z))


def test_weights_saved_before_there_was_a_mixture_are_standard_normal():
    z = torch.randn(7, 3)
    torch.testing.assert_close(standard(3).log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(1))
    counts = CountsGivenBatch(3, 10, 2, prior=MixturePrior(3))
    older = {name: value for name, value in counts.state_dict().items() if not name.startswith("prior.")}
    counts.load_state_dict(older)
    torch.testing.assert_close(counts.prior.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(1))


def test_a_part_of_the_weights_is_refused():
    prior = MixturePrior(3)
    state = prior.state_dict()
    del state["means"]
    with pytest.raises(RuntimeError, match="means"):
        prior.load_state_dict(state)


def test_degenerate_mixture_costs_what_the_normal_distribution_does():
    """The mean over samples is the divergence in closed form."""
    torch.manual_seed(0)
    mean, variance = torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[0.3, 1.0, 0.1]])
    n = 20_000
    batch = {"expression": torch.ones(n, 4), "batch": torch.zeros(n, 1, dtype=torch.int64)}
    costs = []
    for prior in (None, standard(3)):
        objective = CountsGivenBatch(3, 4, 1, prior=prior)
        costs.append(float(objective.loss(batch, encoded(mean.expand(n, -1), variance.expand(n, -1)))["kl"]))
    expected = 0.5 * float((variance + mean**2 - 1 - variance.log()).sum())
    assert costs[0] == pytest.approx(expected, rel=1e-4)
    assert costs[1] == pytest.approx(expected, rel=0.02)


def test_components_learn_where_the_cells_are():
    torch.manual_seed(0)
    prior = MixturePrior(2, n_components=4)
    z = torch.cat([torch.randn(200, 2) * 0.3 + 3, torch.randn(200, 2) * 0.3 - 3])
    before = float(prior.log_prob(z).mean())
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (-prior.log_prob(z).mean()).backward()
        optimizer.step()
    assert before < -6
    # entropy of two Gaussians of scale 0.3, and a choice between them
    assert float(prior.log_prob(z).mean()) > -1.3


def test_the_sample_that_is_decoded_is_the_one_that_costs():
    """The prior draws nothing of its own: reconstruction is the same with and without."""
    batch = {"expression": torch.ones(5, 4), "batch": torch.zeros(5, 1, dtype=torch.int64)}
    losses = []
    for prior in (None, MixturePrior(3)):
        torch.manual_seed(0)
        objective = CountsGivenBatch(3, 4, 1, prior=prior)
        losses.append(objective.loss(batch, encoded(torch.zeros(5, 3), torch.ones(5, 3)))["reconstruction_loss"])
    assert torch.equal(losses[0], losses[1])
