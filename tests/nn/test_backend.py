from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig, resolve_backend
from scgenemamba.nn._gated_norm import gated_rms_norm

from .oracle import difference


def test_names():
    assert resolve_backend().name == "torch"
    assert resolve_backend("torch").name == "torch"
    with pytest.raises(ValueError, match=r"Unknown backend 'cuda'; choose one of \['auto', 'torch'\]"):
        resolve_backend("cuda")


def test_the_choice_is_not_saved_with_the_weights():
    config = GeneMambaConfig(n_tokens=10, d_model=32)
    auto, named = (BiMambaEncoder(config, backend).state_dict() for backend in ("auto", "torch"))
    assert auto.keys() == named.keys()
    assert not [key for key in auto if "backend" in key]


def test_gated_norm():
    y, gate = (torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    expected = F.rms_norm(y * gate, (8,), weight, 1e-5)
    assert difference(gated_rms_norm(y, gate, weight, 1e-5), expected) < 1e-14
    assert torch.autograd.gradcheck(lambda *a: gated_rms_norm(*a, 1e-5), (y, gate, weight))


def test_gated_norm_of_half_precision_is_computed_in_float32():
    y, gate, weight = torch.randn(64, 256).bfloat16(), torch.randn(64, 256), torch.randn(256)
    expected = F.rms_norm(y.float() * gate, (256,), weight, 1e-5)
    got = gated_rms_norm(y, gate, weight, 1e-5)
    assert got.dtype == torch.bfloat16
    assert difference(got.float(), expected) < 5e-3
