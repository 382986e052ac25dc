from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scgenemamba.nn._norm import RMSNorm, rms_norm

from .oracle import difference


@pytest.mark.parametrize("gated", [False, True])
def test_equals_torch(gated):
    x, gate = (torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    expected = F.rms_norm(x * gate if gated else x, (8,), weight, 1e-5)
    assert difference(rms_norm(x, weight, 1e-5, gate if gated else None), expected) < 1e-14
    inputs = (x, weight, gate) if gated else (x, weight)
    assert torch.autograd.gradcheck(lambda x, weight, *gate: rms_norm(x, weight, 1e-5, *gate), inputs)


def test_the_module_is_torch_s():
    x = torch.randn(5, 8)
    norm = RMSNorm(8)
    assert isinstance(norm, torch.nn.RMSNorm)
    assert list(norm.state_dict()) == ["weight"]
    assert difference(norm(x), torch.nn.RMSNorm(8, eps=1e-5)(x)) < 1e-6


def test_half_precision_is_computed_in_float32():
    x, gate, weight = torch.randn(64, 256).bfloat16(), torch.randn(64, 256), torch.randn(256)
    expected = F.rms_norm(x.float() * gate, (256,), weight, 1e-5)
    got = rms_norm(x, weight, 1e-5, gate)
    assert got.dtype == torch.bfloat16
    assert difference(got.float(), expected) < 5e-3


def test_zeros_stay_finite():
    x = torch.zeros(2, 8, requires_grad=True)
    out = rms_norm(x, torch.ones(8), 1e-5)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(out, torch.zeros(2, 8))
    assert bool(grad.isfinite().all())
