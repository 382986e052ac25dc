"""Counterparts: a type that one batch lacks is told from those that both have, by expression."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scgenemamba.train import BatchAlignment
from scgenemamba.train._counterparts import Counterparts

N_GENES = 120


def cells(lacking=3, n_each=90, n_batch=2, seed=0):
    """Counts of four types of which the second batch lacks one, with an effect of the batch on every gene."""
    generator = np.random.default_rng(seed)
    rate = generator.gamma(0.5, 1.0, (1, N_GENES)) * np.ones((4, 1))
    for kind in range(4):
        rate[kind, kind * 20 : kind * 20 + 20] += 3
    effect = generator.lognormal(0, 0.3, (n_batch, N_GENES))
    kinds = [(kind, batch) for batch in range(n_batch) for kind in range(4) if batch == 0 or kind != lacking]
    types = np.repeat([kind for kind, _ in kinds], n_each)
    batches = np.repeat([batch for _, batch in kinds], n_each)
    depth = generator.lognormal(0, 0.3, (len(types), 1)) * np.where(batches, 0.4, 1.0)[:, None]
    counts = generator.poisson(rate[types] * effect[batches] * depth)
    order = generator.permutation(len(types))
    return (torch.tensor(values[order]) for values in (counts.astype(np.float32), batches, types))


def fitted(expression, batches, step=100):
    counterparts = Counterparts(len(batches))
    for part in torch.arange(len(batches)).split(step):
        assert not counterparts.fitted
        counterparts.collect(expression[part], batches[part])
    assert counterparts.fitted
    return counterparts


def test_only_the_type_that_a_batch_lacks_is_alone():
    expression, batches, types = cells()
    together = fitted(expression, batches)(expression, batches)
    means = torch.stack([together[types == kind].mean() for kind in range(4)])
    assert together.dtype == torch.float32
    assert float(means[3]) < 0.05
    assert float(means[:3].min()) > 0.75


def test_cells_that_were_never_seen_are_judged_alike():
    expression, batches, types = cells()
    half = len(types) // 2
    counterparts = fitted(expression[:half], batches[:half])
    together = counterparts(expression[half:], batches[half:])
    assert float(together[types[half:] == 3].mean()) < 0.1
    assert float(together[types[half:] != 3].mean()) > 0.75


def test_depth_and_the_order_of_cells_and_batches_do_not_matter():
    expression, batches, _ = cells()
    together = fitted(expression, batches)(expression, batches)
    deeper = fitted(expression, batches)(expression * 3, batches)
    torch.testing.assert_close(deeper, together, rtol=1e-3, atol=1e-3)
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(0))
    again = fitted(expression[order], 1 - batches[order])(expression, 1 - batches)
    # where the last of a cell's neighbours are equally far, rounding decides
    assert float((again - together).abs().mean()) < 0.01


def test_the_shares_are_the_definition():
    """Written down with sets, in the full space of standardised genes."""
    expression, batches, _ = cells(n_each=15)
    counterparts = fitted(expression, batches)
    profiles, near = counterparts.profiles.double(), []
    for i in range(len(batches)):
        near.append(set())
        for batch in (0, 1):
            of = [j for j in range(len(batches)) if int(batches[j]) == batch]
            n = max(round(0.03 * len(of)), 3)
            near[i] |= set(sorted(of, key=lambda j: float((profiles[i] - profiles[j]).norm()))[:n])
    expected = []
    for i in range(len(batches)):
        mutual = [j for j in near[i] if batches[j] != batches[i] and i in near[j]]
        expected.append(len(mutual) / sum(batches[j] != batches[i] for j in near[i]))
    torch.testing.assert_close(counterparts.shares, torch.tensor(expected, dtype=torch.float32))


def test_directions_are_principal_components():
    expression, batches, _ = cells()
    counterparts = fitted(expression, batches)
    x = counterparts._standardised(torch.log1p(expression / expression.sum(1, keepdim=True) * 1e4)).double()
    _, singular, _ = torch.linalg.svd(x, full_matrices=False)
    lengths = counterparts.profiles.double().norm(dim=0).sort(descending=True).values
    torch.testing.assert_close(lengths, singular[:30], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_few_or_equal_cells_are_no_trouble(n):
    for expression in (torch.ones(n, 3), torch.zeros(n, 3)):
        batches = torch.arange(n) % 2
        together = fitted(expression, batches)(expression, batches)
        assert bool(torch.isfinite(together).all())
        assert bool(((together >= 0) & (together <= 1)).all())


def test_a_batch_that_the_reference_lacks_is_alone():
    expression, batches, _ = cells()
    together = fitted(expression, batches)(expression, torch.full_like(batches, 7))
    assert not together.any()


def test_no_random_numbers_and_nothing_to_save():
    expression, batches, _ = cells()
    before = torch.random.get_rng_state()
    counterparts = fitted(expression, batches)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not counterparts.state_dict()
    assert not list(counterparts.parameters())


def test_the_alignment_leaves_the_type_alone_wherever_it_lies():
    """Even on top of another type in the latent, where clusters cannot tell them apart."""
    expression, batches, types = cells()
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(len(types), 4, generator=generator) * 0.5
    z[:, 0] += torch.where(types == 3, 2, types) * 3.0
    z[:, 1] += batches
    z.requires_grad_()
    objective = BatchAlignment(4, N_GENES, 2, ramp=1, queue_size=len(types))
    for _ in range(3):
        for part in torch.arange(len(types)).split(100):
            encoded = SimpleNamespace(mean=z[part])
            batch = {"batch": batches[part][:, None], "expression": expression[part]}
            value = objective.loss(batch, encoded)["batch_alignment"]
    z.grad = None
    batch = {"batch": batches[:, None], "expression": expression}
    value = objective.loss(batch, SimpleNamespace(mean=z))["batch_alignment"]
    value.backward()
    pull = z.grad.norm(dim=1)
    assert float(value.detach()) > 0
    assert float(pull[types == 3].mean()) < 0.05 * float(pull[types == 2].mean())
