"""Alignment of batches: who moves, who stays, and that nothing else notices."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from scgenemamba.train import BatchAlignment

SHIFT = torch.tensor([1.2, 0.0, -0.8, 0.0])
CENTRES = torch.tensor([[6.0, 0, 0, 0], [0, 6, 0, 0], [0, 0, 6, 0]])


def cells(n_each=120):
    """Latents of three types, batches and types; the second batch is shifted, and has the third type for itself."""
    generator = torch.Generator().manual_seed(0)
    kinds = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 1)]
    types = torch.tensor([kind for kind, _ in kinds]).repeat_interleave(n_each)
    batches = torch.tensor([batch for _, batch in kinds]).repeat_interleave(n_each)
    noise = torch.randn(len(types), 4, generator=generator)
    order = torch.randperm(len(types), generator=generator)
    z = CENTRES[types] + noise * 0.7 + batches[:, None] * SHIFT
    return z[order], batches[order], types[order]


class Everywhere(torch.nn.Module):
    """Stands for :class:`Counterparts` where these are not what is tested: all cells have some."""

    fitted = True

    def forward(self, expression, codes):
        return torch.ones(len(codes))


def aligning(n_latent=4, n_batch=2, **settings):
    objective = BatchAlignment(n_latent, 2, n_batch, **settings)
    objective.counterparts = Everywhere()
    return objective


def loss(objective, z, batches, expression=None):
    expression = torch.ones(len(z), 2) if expression is None else expression
    batch = {"batch": batches[:, None], "expression": expression}
    return objective.loss(batch, SimpleNamespace(mean=z))["batch_alignment"]


def filled(n_batch=2, seen=None, **settings):
    """Objective that has seen all cells and has clusters."""
    z, batches, _ = cells()
    objective = aligning(4, n_batch, **{"ramp": 1, "queue_size": len(z), **settings})
    z = z.clone().requires_grad_()
    for _ in range(2):
        for part in torch.arange(len(z)).split(100):
            loss(objective, z[part], batches[part] if seen is None else seen[part])
    return objective


def test_shared_types_meet_and_a_type_of_one_batch_stays():
    z, batches, types = cells()
    start = z.clone()
    objective = aligning(4, 2, ramp=1, queue_size=len(z))
    z.requires_grad_()

    def gaps():
        means = [[z[(types == t) & (batches == b)].mean(0) for b in (0, 1)] for t in (0, 1)]
        return torch.stack([(a - b).norm() for a, b in means]).detach()

    before = gaps()
    optimizer = torch.optim.SGD([z], lr=1.0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        for part in torch.randperm(len(z), generator=generator).split(100):
            optimizer.zero_grad()
            loss(objective, z[part], batches[part]).backward()
            optimizer.step()
    assert float((gaps() / before).max()) < 0.35
    moved = (z.detach() - start).norm(dim=1)
    assert float(moved[types == 2].mean()) < 0.1 * float(moved[types != 2].mean())


def test_a_cell_without_counterparts_stays():
    objective = filled()
    z, batches, types = cells()
    step = z.clone().requires_grad_()
    objective.discrepancy(step, batches, (types != 2).float()).backward()
    assert torch.equal(step.grad.abs().sum(1) > 0, types != 2)


def test_discrepancy_is_the_formula():
    """Written down in loops: within each cluster, kernel means of the own batch less those of all batches, of
    cells as far as they have counterparts."""
    objective = filled(n_clusters=3)
    z, batches, _ = cells(30)
    generator = torch.Generator().manual_seed(2)
    objective.togetherness = torch.rand(objective.queue_size, generator=generator)
    together = torch.rand(len(z), generator=generator)
    queue, of_queue, counts = objective._queue()
    square = lambda a, b: ((a[:, None] - b) ** 2).sum(-1)
    spread, near = square(queue, objective.centres), square(z, objective.centres)
    softness = 2 * spread.min(1).values.mean()
    members, of_cells = (-spread / softness).softmax(1), (-near / softness).softmax(1)
    width = (members * spread).sum(1).mean()
    kernel = sum((-square(z, queue) / (width * factor)).exp() for factor in (0.3, 1.0, 3.0))
    expected = torch.zeros(())
    for k in range(3):
        similar, confidence = [], []
        for b in (0, 1):
            weight = counts * members[:, k] * (of_queue == b)
            similar.append(kernel @ weight / weight.sum())
            confidence.append(weight.sum() / (weight.sum() + 5))
        every = (confidence[0] * similar[0] + confidence[1] * similar[1]) / (confidence[0] + confidence[1])
        own = torch.where(batches == 0, similar[0], similar[1])
        believed = torch.where(batches == 0, confidence[0], confidence[1])
        expected = expected + (together * of_cells[:, k] * believed * (own - every)).mean()
    assert float(expected) > 0.01
    torch.testing.assert_close(objective.discrepancy(z, batches, together), expected, rtol=1e-3, atol=1e-5)


def test_only_the_cells_of_the_step_get_a_gradient():
    objective = filled()
    z, batches, _ = cells()
    step = z[:100].clone().requires_grad_()
    loss(objective, step, batches[:100]).backward()
    assert bool(step.grad.abs().sum(1).gt(0).all())
    assert not any(tensor.requires_grad for tensor in (objective.latents, objective.centres))
    assert not list(objective.parameters())
    assert not objective.state_dict()


def test_names_of_batches_do_not_matter():
    z, batches, _ = cells()
    order = torch.tensor([2, 0, 1])
    three = (batches + (torch.arange(len(batches)) % 5 == 0)).clamp(max=2)
    a, b = filled(3, seen=three), filled(3, seen=order[three])
    a, b = loss(a.eval(), z[:50], three[:50]), loss(b.eval(), z[:50], order[three][:50])
    assert float(a) != 0
    torch.testing.assert_close(a, b)


def test_no_random_numbers_are_drawn():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = filled(), filled()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.centres, second.centres)


def test_validation_changes_nothing():
    objective = filled().eval()
    z, batches, _ = cells()
    state = {name: value.clone() for name, value in objective.named_buffers()}
    seen = objective.n_seen, objective.n_steps
    with torch.no_grad():
        first, second = (loss(objective, z[:50], batches[:50]) for _ in range(2))
    assert float(first) != 0
    assert torch.equal(first, second)
    assert (objective.n_seen, objective.n_steps) == seen
    assert all(torch.equal(value, state[name]) for name, value in objective.named_buffers())


def test_a_single_batch_is_at_one_with_itself():
    z, batches, _ = cells()
    objective = filled(seen=torch.zeros_like(batches))
    step = z[:50].clone().requires_grad_()
    # also for cells of the other batch, of which nothing is known
    value = loss(objective, step, batches[:50])
    value.backward()
    assert abs(float(value.detach())) < 1e-4
    assert float(step.grad.abs().max()) < 1e-4


def test_cells_of_unknown_batch_take_no_part():
    objective, same = filled(), filled()
    z, batches, _ = cells()
    step = z[:60].clone().requires_grad_()
    codes = torch.where(torch.arange(60) % 3 == 0, -1, batches[:60])
    known = codes >= 0
    value = loss(objective, step, codes)
    torch.testing.assert_close(value, loss(same, step[known], codes[known]))
    value.backward()
    assert torch.equal(step.grad.abs().sum(1) > 0, known)
    assert all(torch.equal(a, b) for a, b in zip(objective.buffers(), same.buffers(), strict=True))
    none = loss(objective, step, torch.full((60,), -1))
    assert float(none.detach()) == 0
    assert float(loss(objective, step[:0], codes[:0]).detach()) == 0


def test_the_queue_is_filled_first_and_the_weight_rises():
    z, batches, _ = cells()
    z = z.clone().requires_grad_()
    objective = aligning(4, 2, weight=10.0, ramp=2000)
    values = []
    for part in torch.arange(512).split(128):
        values.append(loss(objective, z[part], batches[part]))
    assert [float(value.detach()) for value in values] == [0.0] * 4
    assert all(value.requires_grad for value in values)
    value = loss(objective, z[512:], batches[512:])
    assert objective.n_seen == len(z)
    objective.eval()
    expected = 10 * objective.n_seen / 2000 * objective.discrepancy(z[:50], batches[:50], torch.ones(50))
    torch.testing.assert_close(loss(objective, z[:50], batches[:50]), expected)
    assert float(value.detach()) > 0


def test_the_queue_keeps_the_last_cells():
    objective = aligning(1, 2, queue_size=10)
    z = torch.arange(36.0)[:, None].requires_grad_()
    for part in torch.arange(24).split(4):
        loss(objective, z[part], part % 2)
    assert sorted(objective.latents.flatten().tolist()) == list(range(14, 24))
    assert objective.batches.tolist() == (objective.latents.flatten() % 2).tolist()
    # a step of more cells than there is room for
    loss(objective, z[24:], torch.arange(12) % 2)
    assert sorted(objective.latents.flatten().tolist()) == list(range(26, 36))


def test_a_frozen_encoder_is_left_alone():
    objective = filled()
    seen = objective.n_seen
    z, batches, _ = cells()
    loss(objective, z[:50], batches[:50])
    assert objective.n_seen == seen
    fresh = aligning(4, 2, ramp=1, queue_size=50)
    assert [float(loss(fresh, z[:50], batches[:50])) for _ in range(3)] == [0.0] * 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_it(dtype):
    objective = filled().eval()
    z, batches, _ = cells()
    expected = loss(objective, z[:50], batches[:50])
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(loss(objective, z[:50], batches[:50]), expected)


def test_empty_clusters_start_again_where_cells_are_far():
    objective = aligning(1, 2, queue_size=40, n_clusters=2)
    # both start in the crowd, the first and the middle of the queue
    z = torch.cat([torch.zeros(38), torch.tensor([50.0, 50.0])])[:, None].requires_grad_()
    for _ in range(2):
        loss(objective, z, torch.arange(40) % 2)
    assert sorted(objective.centres.flatten().tolist()) == [0.0, 50.0]


def test_equal_latents_are_no_trouble():
    objective = aligning(2, 2, queue_size=30, ramp=1)
    z = torch.ones(30, 2, requires_grad=True)
    for _ in range(3):
        value = loss(objective, z, torch.arange(30) % 2)
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(z.grad).all())
