from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import Pooling

LENGTHS = [3, 0, 5, 1, 0]
CU_SEQLENS = torch.tensor([0, 3, 3, 8, 9, 9])


def loop(hidden, keep, names):
    rows = []
    for part, kept in zip(hidden.split(LENGTHS), keep.split(LENGTHS), strict=True):
        zeros = torch.zeros(hidden.shape[1], dtype=hidden.dtype)
        some = bool(kept.any())
        ways = {
            "mean": part[kept].mean(0) if some else zeros,
            "max": part[kept].amax(0) if some else zeros,
            "cls": part[0] if len(part) else zeros,
        }
        rows.append(torch.cat([ways[name] for name in names]))
    return torch.stack(rows)


@pytest.mark.parametrize("names", [("mean", "max"), ("cls",), ("max", "cls", "mean")])
@pytest.mark.parametrize("some", [False, True])
def test_equals_the_loop(names, some):
    hidden = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    keep = torch.ones(9, dtype=torch.bool)
    if some:
        keep[[0, 4, 8]] = False
    pooling = Pooling(names)
    pooled = pooling(hidden, CU_SEQLENS, keep if some else None)
    expected = loop(hidden, keep, names)
    assert pooled.shape == (5, pooling.output_dim(4))
    torch.testing.assert_close(pooled, expected, rtol=1e-13, atol=1e-13)
    got, wanted = (torch.autograd.grad(t.sin().sum(), hidden)[0] for t in (pooled, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)


def test_no_tokens_at_all():
    pooled = Pooling(("mean", "max", "cls"))(torch.empty(0, 4), torch.tensor([0, 0, 0]))
    assert torch.equal(pooled, torch.zeros(2, 12))


def test_half_precision_is_pooled_in_float32():
    hidden = torch.randn(9, 4).bfloat16()
    pooled = Pooling(("mean",))(hidden, CU_SEQLENS)
    assert torch.equal(pooled, Pooling(("mean",))(hidden.float(), CU_SEQLENS))
