"""Cells with fewer of their genes."""

import torch

from scgenemamba.train import CellRandom, drop_genes


def batch_of(lengths, first=0):
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    cells = torch.arange(first, first + len(lengths))
    return {"tokens": torch.arange(int(bounds[-1])), "cu_seqlens": bounds, "cell": cells, "expression": torch.ones(1)}


def test_half_of_the_cells_are_whole_and_the_others_lose_up_to_the_share():
    lengths = [400] * 300
    batch = batch_of(lengths)
    got = drop_genes(batch, CellRandom(0, 0), 0.6)
    left = got["cu_seqlens"].diff() / 400
    assert 0.4 < (left == 1).float().mean() < 0.6
    assert 0.3 < left.min() < 0.5
    # expected share of those that lose some: 0.3
    assert abs(left[left < 1].mean() - 0.7) < 0.05
    assert got["expression"] is batch["expression"]
    assert got["cu_seqlens"].dtype == batch["cu_seqlens"].dtype


def test_order_stays_and_the_first_gene():
    got = drop_genes(batch_of([5, 1, 0, 7]), CellRandom(1, 3), 0.99)
    starts = got["cu_seqlens"][:-1]
    assert (got["tokens"].diff() > 0).all()
    assert got["tokens"][starts[[0, 1, 3]]].tolist() == [0, 5, 6]
    assert got["cu_seqlens"].diff()[2] == 0


def test_what_a_cell_loses_does_not_depend_on_its_batch():
    both = drop_genes(batch_of([50, 60]), CellRandom(0, 2), 0.9)
    alone = drop_genes(batch_of([60], first=1), CellRandom(0, 2), 0.9)
    second = both["tokens"][both["cu_seqlens"][1] :] - 50
    assert second.tolist() == alone["tokens"].tolist()
