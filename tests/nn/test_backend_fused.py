"""The Triton kernels against the plain back-end in float64: on a GPU, or anywhere with TRITON_INTERPRET=1."""

from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import BiMambaBlock, BiMambaEncoder, GeneMambaConfig, Packed, Padded, resolve_backend
from scgenemamba.nn import _backend_fused as fused

from .oracle import shake

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OBSTACLE = fused.FusedBackend.obstacle(DEVICE)
# float64 is slow in the interpreter, which cannot do half precision either
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2} if DEVICE.type == "cuda" else {torch.float32: 1e-4}
SIZES = {"n_tokens": 20, "d_model": 32, "headdim": 16, "d_state": 16}

pytestmark = pytest.mark.skipif(OBSTACLE is not None, reason=f"back-end 'fused': {OBSTACLE}")


@pytest.fixture(
    params=[(fused._SEGMENT, fused._PIECE), (128, 64), (64, 64)], ids=["whole", "pieces", "segments"], autouse=True
)
def segment(request, monkeypatch):
    for name, value in zip(("_SEGMENT", "_PIECE"), request.param, strict=True):
        monkeypatch.setattr(fused, name, value)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def in_type(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Convert all but the parameters of the decays, which stay accurate."""
    accurate = torch.promote_types(dtype, torch.float32)
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(accurate if name.endswith(("A_log", "dt_bias", ".D")) else dtype)
    return module


def outputs_and_gradients(block, backend, parts, layout_of, dtype):
    block = in_type(block, dtype)
    x = [part.to(DEVICE, dtype).requires_grad_() for part in parts]
    packed, layout = layout_of(x)
    out = block(packed, layout, resolve_backend(backend, DEVICE))
    out = out if layout.mask is None else out[layout.mask]
    out = out.flatten(0, -2)
    weight = torch.linspace(-1, 1, out.numel(), device=DEVICE, dtype=torch.float64).view(out.shape).cos()
    gradients = torch.autograd.grad((out.double() * weight).sum(), [*x, *block.parameters()])
    return out, torch.cat([g.double().flatten() for g in gradients[: len(x)]]), gradients[len(x) :]


def packed(x):
    bounds = torch.tensor([0, *torch.tensor([len(part) for part in x]).cumsum(0).tolist()], device=DEVICE)
    return torch.cat(x), Packed(bounds)


def padded(x):
    lengths = torch.tensor([len(part) for part in x], device=DEVICE)
    # padding must not matter, whatever it holds
    rows = torch.nn.utils.rnn.pad_sequence(x, batch_first=True, padding_value=7.0)
    return rows, Padded(lengths, rows.shape[1])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("fusion", "layout_of", "lengths", "sizes"),
    [
        ("mean", packed, [150, 0, 1, 64, 33], {}),
        ("mean", packed, [300, 20], {}),
        ("mean", packed, [150, 70], {"headdim": 64, "d_state": 64}),
        ("sum", packed, [70], {"d_conv": 3, "headdim": 32, "d_state": 32}),
        ("gate", padded, [70, 3], {}),
        ("concat", padded, [65, 65], {"pre_norm": False}),
        ("alternate", packed, [150, 70], {}),
    ],
)
def test_outputs_and_gradients_equal_those_in_float64(fusion, layout_of, lengths, sizes, dtype):
    torch.manual_seed(0)
    # the second layer, which "alternate" reads backwards
    block = shake(BiMambaBlock(GeneMambaConfig(**{**SIZES, **sizes}, fusion=fusion), 1).double()).to(DEVICE)
    parts = [torch.randn(n, SIZES["d_model"], dtype=torch.float64) for n in lengths]
    expected, d_x, d_parameters = outputs_and_gradients(block, "torch", parts, layout_of, torch.float64)
    # what half precision loses before and behind the kernels is not theirs
    allowed = TOLERANCES[dtype] * {"gate": 4, "alternate": 1.5}.get(fusion, 1)
    got, got_d_x, got_d_parameters = outputs_and_gradients(block, "fused", parts, layout_of, dtype)
    assert relative(got, expected) < allowed
    assert relative(got_d_x, d_x) < allowed
    for (name, _), a, b in zip(block.named_parameters(), got_d_parameters, d_parameters, strict=True):
        assert relative(a, b) < allowed, name


def test_the_encoder_does_not_depend_on_how_cells_are_packed():
    encoder = shake(BiMambaEncoder(GeneMambaConfig(**SIZES, n_layers=2), "fused")).to(DEVICE)
    cells = [torch.randint(20, (n,), device=DEVICE) for n in (40, 1, 130)]
    bounds = torch.tensor([0, 40, 41, 171], device=DEVICE)
    with torch.no_grad():
        together = encoder(torch.cat(cells), bounds).split([40, 1, 130])
        for cell, hidden in zip(cells, together, strict=True):
            alone = encoder(cell, torch.tensor([0, len(cell)], device=DEVICE))
            assert relative(hidden, alone) < 1e-6


def test_sizes_that_were_not_checked_are_named():
    config = GeneMambaConfig(n_tokens=10, d_model=24, headdim=24)
    assert resolve_backend("auto", DEVICE, config).name != "fused"
    with pytest.raises(RuntimeError, match="headdim, d_state.* to be one of .*64, 64.*, not .24, 64."):
        resolve_backend("fused", DEVICE, config)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="CUDA graphs need a GPU")
def test_replayed_batches_equal_fresh_ones():
    encoder = shake(BiMambaEncoder(GeneMambaConfig(**SIZES, n_layers=2))).to(DEVICE)
    again = BiMambaEncoder(encoder.config).to(DEVICE)
    again.load_state_dict(encoder.state_dict())

    def batch(lengths):
        bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], device=DEVICE)
        return torch.randint(20, (sum(lengths),), device=DEVICE), bounds

    with torch.inference_mode():
        for lengths in ([300, 200], [301, 150, 7], [280, 0, 220], [3000], [290, 200]):
            tokens, bounds = batch(lengths)
            fresh = again._run_packed(
                again.embed(tokens), bounds, max(lengths), backend=again._backend(tokens.device), reading="both"
            )
            # products of other sizes may be summed in another order
            assert relative(encoder(tokens, bounds), fresh) < 1e-5
    assert any(encoder._replay._recordings.values())
    # parameters that have moved are read where they are now
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.data = parameter.data * 1.5
        tokens, bounds = batch([300, 200])
        first, second = encoder(tokens, bounds), encoder(tokens, bounds)
        before = again(tokens, bounds)
    assert relative(first, second) < 1e-5
    assert relative(first, before) > 1e-2
