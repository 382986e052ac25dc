"""Losses of guesses that do not read the cell, against the plain computation."""

from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import cell_of_token, truncate
from scgenemamba.train import RankBaselines

N_TOKENS, MOST = 42, 20


def batch_of(generator, n_cells=12):
    lengths = torch.randint(5, 35, (n_cells,), generator=generator)
    tokens = torch.cat([torch.randperm(N_TOKENS - 2, generator=generator)[:n] + 2 for n in lengths])
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return {"tokens": tokens.int(), "cu_seqlens": bounds, "cell": torch.arange(n_cells)}


def every_fourth(batch):
    return torch.arange(len(batch["tokens"])) % 4 == 1


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [batch_of(generator) for _ in range(6)]


def plain(baselines, batch):
    """Both losses by softmax over the whole vocabulary, a hidden gene at a time."""
    tokens, bounds = truncate(batch["tokens"], batch["cu_seqlens"], MOST)
    cell, hidden = cell_of_token(bounds), every_fourth({"tokens": tokens})
    place = (torch.arange(len(tokens)) - bounds[cell] + 0.5) / bounds.diff()[cell]
    sums, n_hidden = [0.0, 0.0], int(hidden.sum())
    count, total, squares = baselines._sums
    n = count + 5
    mean = (total + 2.5) / n
    deviation = ((squares + 5 / 3) / n - mean**2).sqrt().clamp(min=0.02)
    for i in hidden.nonzero().flatten().tolist():
        shown = tokens[(cell == cell[i]) & ~hidden].long()
        share = (count + 0.5).log()
        for kind, logits in enumerate((share, share - 0.5 * ((place[i] - mean) / deviation) ** 2 - deviation.log())):
            allowed = logits.clone()
            allowed[shown] = -torch.inf
            sums[kind] -= float(allowed.log_softmax(0)[tokens[i].long()]) / n_hidden
    return sums


def test_losses_are_those_of_the_plain_computation(batches):
    baselines = RankBaselines(N_TOKENS, MOST).fit(batches[:4])
    found = baselines.losses(batches[4:], every_fourth)
    expected = torch.tensor([plain(baselines, batch) for batch in batches[4:]]).mean(0)
    assert list(found.values()) == pytest.approx(expected.tolist(), rel=1e-5)


def test_places_help_where_genes_have_them():
    generator = torch.Generator().manual_seed(0)
    fixed = []
    for _ in range(20):
        batch = batch_of(generator, 8)
        # of all genes in the order of their numbers, some are expressed
        kept = [torch.arange(2, N_TOKENS)[torch.rand(N_TOKENS - 2, generator=generator) < 0.4] for _ in range(8)]
        bounds = torch.tensor([0, *(len(k) for k in kept)]).cumsum(0)
        fixed.append({**batch, "tokens": torch.cat(kept).int(), "cu_seqlens": bounds})
    found = RankBaselines(N_TOKENS, 40).fit(fixed[:15]).losses(fixed[15:], every_fourth)
    assert found["mean_rank"] < found["unigram"] - 1
