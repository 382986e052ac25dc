"""Pathway contrast: the formula, which genes take part, and that it brings genes of a set together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scgenemamba.nn import Encoded
from scgenemamba.train import CellRandom, PathwayContrast

N_TOKENS = 40
PAIRS = np.array([[2, 3], [2, 4], [3, 4], [10, 11], [30, 12]])
LENGTHS = [6, 0, 8]


@pytest.fixture
def batch():
    tokens = torch.tensor([2, 3, 4, 10, 20, 11] + [12, 30, 2, 21, 22, 10, 11, 3])
    return {"tokens": tokens, "cu_seqlens": torch.tensor([0, *np.cumsum(LENGTHS)]), "cell": torch.tensor([5, 6, 7])}


def encoded_of(batch, hidden=None, masked=None):
    if hidden is None:
        hidden = torch.randn(len(batch["tokens"]), 8, generator=torch.Generator().manual_seed(1))
    nothing = torch.empty(0)
    return Encoded(hidden, batch["tokens"], batch["cu_seqlens"], masked, nothing, nothing, nothing)


def loss_of(objective, batch, encoded, epoch=0):
    objective.prepare(batch, CellRandom(0, epoch))
    return objective.loss(batch, encoded)["pathway"]


@pytest.mark.parametrize("denominator", ["anchor", "batch"])
def test_the_loss_is_equation_15(batch, denominator):
    objective = PathwayContrast(PAIRS, N_TOKENS, temperature=0.2, weight=3.0, denominator=denominator)
    encoded = encoded_of(batch)
    states, tokens = F.normalize(encoded.hidden, dim=-1), batch["tokens"].tolist()
    together = {tuple(sorted(pair)) for pair in PAIRS.tolist()}
    inside = {token for pair in together for token in pair}
    # no cell has more genes than are drawn, so all take part
    chosen = [
        (i, v)
        for start, end in ((0, 6), (6, 14))
        for i in range(start, end)
        for v in range(start, end)
        if i != v and tokens[i] in inside and tokens[v] in inside
    ]
    s = {(i, v): states[i] @ states[v] / 0.2 for i, v in chosen}
    positives = [(i, v) for i, v in chosen if tuple(sorted((tokens[i], tokens[v]))) in together]
    assert len(positives) > 6
    terms = []
    for i, v in positives:
        among = [s[a, b] for a, b in chosen if denominator == "batch" or a == i]
        terms.append(torch.stack(among).logsumexp(0) - s[i, v])
    torch.testing.assert_close(loss_of(objective, batch, encoded), 3 * torch.stack(terms).mean())


def test_pairs_are_found_in_any_order():
    objective = PathwayContrast(PAIRS[:, ::-1], N_TOKENS)
    first, second = torch.meshgrid(torch.arange(N_TOKENS), torch.arange(N_TOKENS), indexing="ij")
    expected = torch.zeros(N_TOKENS, N_TOKENS, dtype=torch.bool)
    for a, b in PAIRS:
        expected[a, b] = expected[b, a] = True
    assert torch.equal(objective.belong_together(first, second), expected)
    empty = PathwayContrast(np.empty((0, 2), dtype=np.int64), N_TOKENS)
    assert not empty.belong_together(first, second).any()


def test_hidden_genes_and_genes_of_no_set_take_no_part(batch):
    objective = PathwayContrast(PAIRS, N_TOKENS)
    masked = torch.zeros(14, dtype=torch.bool)
    masked[[1, 8]] = True
    hidden = torch.randn(14, 8).requires_grad_()
    loss_of(objective, batch, encoded_of(batch, hidden, masked)).backward()
    without = {1, 8, 4, 9, 10}
    assert {i for i in range(14) if not hidden.grad[i].any()} >= without
    assert hidden.grad.isfinite().all()
    assert hidden.grad[0].any()


@pytest.mark.parametrize("denominator", ["anchor", "batch"])
@pytest.mark.parametrize("tokens", [[20, 21, 22], [2], []])
def test_without_pairs_the_loss_is_zero(tokens, denominator):
    batch = {
        "tokens": torch.tensor(tokens, dtype=torch.long),
        "cu_seqlens": torch.tensor([0, len(tokens)]),
        "cell": torch.tensor([3]),
    }
    hidden = torch.randn(len(tokens), 8).requires_grad_()
    value = loss_of(PathwayContrast(PAIRS, N_TOKENS, denominator=denominator), batch, encoded_of(batch, hidden))
    assert value == 0
    value.backward()
    assert not hidden.grad.any()


def test_what_is_drawn_depends_on_the_cell_alone_and_is_bounded(batch):
    objective = PathwayContrast(PAIRS, N_TOKENS, n_anchors=2, n_candidates=3)
    objective.prepare(batch, CellRandom(0, 0))
    anchors, candidates = objective._drawn(batch, encoded_of(batch))
    assert anchors.shape == (3, 2)
    assert candidates.shape == (3, 3)
    assert (anchors[1] == -1).all()
    alone = {"tokens": batch["tokens"][6:], "cu_seqlens": torch.tensor([0, 8]), "cell": batch["cell"][2:]}
    again, _ = objective._drawn(alone, encoded_of(alone))
    assert torch.equal(again[0] + 6, anchors[2])
    drawn = set()
    for epoch in range(20):
        objective.prepare(batch, CellRandom(0, epoch))
        drawn |= set(objective._drawn(batch, encoded_of(batch))[0][2].tolist())
    # every gene of a set, in time
    assert drawn == {i for i in range(6, 14) if int(batch["tokens"][i]) in set(PAIRS.flatten().tolist())}


def test_it_brings_genes_of_a_set_together(batch):
    objective = PathwayContrast(PAIRS, N_TOKENS, weight=1.0)
    hidden = torch.randn(14, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([hidden], lr=0.05)
    first = None
    for epoch in range(100):
        value = loss_of(objective, batch, encoded_of(batch, hidden), epoch)
        first = first or value.item()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < 0.5 * first
    cosine = F.cosine_similarity(hidden[[0, 0]], hidden[[1, 3]])
    assert cosine[0] > cosine[1] + 0.5


def test_an_unknown_denominator_is_refused():
    with pytest.raises(ValueError, match="denominator"):
        PathwayContrast(PAIRS, N_TOKENS, denominator="global")
