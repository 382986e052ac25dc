from __future__ import annotations

import pytest

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig, resolve_backend


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
