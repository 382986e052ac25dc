from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig, backend_report, resolve_backend

CPU = torch.device("cpu")


def test_names():
    assert resolve_backend("auto", CPU).name == "torch"
    assert resolve_backend("torch", CPU).name == "torch"
    with pytest.raises(ValueError, match=r"Unknown backend 'cuda'; choose one of \['auto', 'fused', "):
        BiMambaEncoder(GeneMambaConfig(n_tokens=10), "cuda")


def test_the_report_gives_a_reason_for_each_backend_that_is_not_chosen():
    report = {status.name: status for status in backend_report(CPU)}
    assert report["torch"].chosen
    assert not report["torch"].reason
    assert not report["fused"].chosen
    assert report["fused"].reason


def test_the_choice_is_not_saved_with_the_weights():
    config = GeneMambaConfig(n_tokens=10, d_model=32)
    auto, named = (BiMambaEncoder(config, backend).state_dict() for backend in ("auto", "torch"))
    assert auto.keys() == named.keys()
    assert not [key for key in auto if "backend" in key]
