from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import Packed, Padded, truncate
from scgenemamba.nn._layout import pad, unpad
from scgenemamba.nn._pieces import cut_into_pieces

LENGTHS = [[3, 1, 5], [5, 5, 5], [0, 4, 0], [1]]


def ragged(lengths):
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    return torch.arange(1, sum(lengths) + 1, dtype=torch.float64)[:, None] * torch.tensor([1.0, -1.0]), cu_seqlens


@pytest.mark.parametrize("lengths", LENGTHS)
def test_padded_reversal(lengths):
    values, cu_seqlens = ragged(lengths)
    x, layout = pad(values, cu_seqlens)
    layout = Padded(layout.lengths, layout.max_length + 2)
    x = torch.nn.functional.pad(x, (0, 0, 0, 2), value=7.0)
    reversed_ = layout.reverse(x)
    for row, before, length in zip(reversed_, x, lengths, strict=True):
        assert torch.equal(row[:length], before[:length].flip(0))
        assert torch.equal(row[length:], before[length:])
    assert torch.equal(layout.reverse(reversed_), x)
    assert torch.equal(layout.mask.sum(1), torch.tensor(lengths))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_packed_reversal(lengths):
    values, cu_seqlens = ragged(lengths)
    layout = Packed(cu_seqlens)
    expected = torch.cat([part.flip(0) for part in values.split(lengths)])
    assert torch.equal(layout.reverse(values), expected)
    assert torch.equal(layout.reverse(expected), values)
    assert layout.seq_idx.tolist() == [[i for i, length in enumerate(lengths) for _ in range(length)]]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_reversal_gradients(lengths):
    values, cu_seqlens = ragged(lengths)
    x, layout = pad(values, cu_seqlens)
    assert torch.autograd.gradcheck(layout.reverse, x.requires_grad_())
    assert torch.autograd.gradcheck(Packed(cu_seqlens).reverse, values.requires_grad_())


def test_full_rows_have_no_mask():
    assert Padded(torch.tensor([4, 4]), 4).mask is None
    assert Padded(torch.tensor([4, 4]), 4).seq_idx is None


@pytest.mark.parametrize("lengths", LENGTHS)
def test_pad_and_unpad(lengths):
    values, cu_seqlens = ragged(lengths)
    x, layout = pad(values, cu_seqlens)
    assert x.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(unpad(x, layout), values)
    assert float(x.abs().sum()) == float(values.abs().sum())


@pytest.mark.parametrize("lengths", [*LENGTHS, [0, 0], []])
@pytest.mark.parametrize("max_tokens", [1, 3, 9])
def test_truncate(lengths, max_tokens):
    tokens = torch.arange(sum(lengths), dtype=torch.int32)
    cu_seqlens = torch.tensor([0, *torch.tensor(lengths, dtype=torch.int64).cumsum(0).tolist()])
    kept, bounds = truncate(tokens, cu_seqlens, max_tokens)
    expected = [part[:max_tokens].tolist() for part in tokens.split(lengths)] if lengths else []
    assert kept.dtype == tokens.dtype
    assert bounds.dtype == cu_seqlens.dtype
    assert [part.tolist() for part in kept.split(bounds.diff().tolist())] == expected or not lengths


@pytest.mark.parametrize("lengths", [[3, 1, 5, 5, 0, 2, 4], [4, 4, 4], [9]])
@pytest.mark.parametrize("piece_tokens", [1, 6, 10, 1000])
def test_pieces_hold_every_token_once(lengths, piece_tokens):
    values, cu_seqlens = ragged(lengths)
    pieces = cut_into_pieces(cu_seqlens, piece_tokens)
    parts = pieces.split(values[pieces.source])
    assert torch.equal(pieces.join(parts), values)
    assert sum(len(layout.lengths) for layout in pieces.layouts) == sum(length > 0 for length in lengths)
    for part, layout in zip(parts, pieces.layouts, strict=True):
        assert part.shape[:2] == (len(layout.lengths), int(layout.lengths.max()))
        assert part.shape[0] == 1 or part.shape[0] * part.shape[1] <= piece_tokens
        assert layout.full == bool((layout.lengths == layout.max_length).all())
        # a row is a cell: consecutive tokens up to its length
        for row, length in zip(part[..., 0], layout.lengths, strict=True):
            assert torch.equal(row[:length].diff(), torch.ones(int(length) - 1, dtype=row.dtype))


def test_joining_pieces_passes_gradients_on():
    values, cu_seqlens = ragged([3, 1, 5])
    pieces = cut_into_pieces(cu_seqlens, 8)
    assert torch.autograd.gradcheck(lambda v: pieces.join(pieces.split(v[pieces.source])), values.requires_grad_())
