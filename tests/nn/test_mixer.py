from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import GeneMambaConfig, Mamba2Mixer, Packed, Padded

from .oracle import difference, mixer_forward, shake

CONFIG = GeneMambaConfig(n_tokens=10, d_model=16, headdim=8, d_state=6, chunk_size=4)


def test_names_and_shapes_are_those_of_the_published_weights():
    mixer = Mamba2Mixer(GeneMambaConfig(n_tokens=10, d_model=512))
    shapes = {name: tuple(parameter.shape) for name, parameter in mixer.state_dict().items()}
    assert shapes == {
        "in_proj.weight": (2192, 512),
        "conv1d.weight": (1152, 1, 4),
        "conv1d.bias": (1152,),
        "dt_bias": (16,),
        "A_log": (16,),
        "D": (16,),
        "norm.weight": (1024,),
        "out_proj.weight": (512, 1024),
    }
    assert sum(p.numel() for p in mixer.parameters()) == 1_653_424


def test_initial_values():
    mixer = Mamba2Mixer(GeneMambaConfig(n_tokens=10, d_model=2048))
    dt = torch.nn.functional.softplus(mixer.dt_bias)
    assert 0.9e-3 < float(dt.min()) < 5e-3
    assert 0.03 < float(dt.max()) < 0.11
    assert 1 <= float(mixer.A_log.exp().min()) < 3
    assert 14 < float(mixer.A_log.exp().max()) <= 16
    assert bool((mixer.D == 1).all())
    assert bool((mixer.norm.weight == 1).all())


@pytest.mark.parametrize("length", [1, 4, 11])
def test_equals_the_written_down_mixer(length):
    mixer = shake(Mamba2Mixer(CONFIG).double())
    u = torch.randn(3, length, 16, dtype=torch.float64)
    expected = torch.stack([mixer_forward(mixer, row) for row in u])
    assert difference(mixer(u, Padded(torch.full((3,), length), length)), expected) < 1e-12


def test_packed_and_padded_sequences_are_equal():
    mixer = shake(Mamba2Mixer(CONFIG).double())
    parts = [torch.randn(n, 16, dtype=torch.float64) for n in (5, 1, 9)]
    expected = torch.cat([mixer_forward(mixer, part) for part in parts])
    packed = mixer(torch.cat(parts), Packed(torch.tensor([0, 5, 6, 15])))
    assert difference(packed, expected) < 1e-12
    padded = mixer(torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), Padded(torch.tensor([5, 1, 9]), 9))
    assert difference(torch.cat([row[:n] for row, n in zip(padded, (5, 1, 9), strict=True)]), expected) < 1e-12
