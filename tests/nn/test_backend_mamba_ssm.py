from __future__ import annotations

import pytest
import torch

from scgenemamba.nn import BiMambaEncoder, GeneMambaConfig, Mamba2Mixer, Packed, Padded, resolve_backend
from scgenemamba.nn import _backend_mamba_ssm as module
from scgenemamba.nn._backend_mamba_ssm import MambaSsmBackend
from scgenemamba.nn._backend_torch import TorchBackend

CPU = torch.device("cpu")
CONFIG = GeneMambaConfig(n_tokens=10, d_model=64, d_state=32)
BOTH = (False, True)
# lengths around the kernels' chunk of 256, and a cell without tokens
LAYOUTS = {
    "packed": (lambda device: Packed(torch.tensor([0, 30, 30, 301, 900], device=device)), (900,)),
    "padded": (lambda device: Padded(torch.tensor([300, 40], device=device), 300), (2, 300)),
    "full": (lambda device: Padded(torch.tensor([257, 257], device=device), 257), (2, 257)),
}


@pytest.fixture(scope="module")
def device():
    """CUDA device with the kernels, exact in float32 and without minutes of tuning."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with pytest.MonkeyPatch.context() as patch:
        # both are read when the kernels are imported or compiled
        patch.setenv("TRITON_F32_DEFAULT", "ieee")
        patch.setenv("MAMBA_DETERMINISTIC", "1")
        obstacle = MambaSsmBackend.obstacle(torch.device("cuda"))
        if obstacle is not None:
            pytest.skip(obstacle)
        yield torch.device("cuda")


@pytest.fixture(params=["causal_conv1d", "own convolution"])
def conv(request, device, monkeypatch):
    kernels = module.load_kernels()
    if request.param == "own convolution":
        monkeypatch.setattr(module, "load_kernels", lambda: kernels._replace(conv=None))
    elif kernels.conv is None:
        pytest.skip("causal_conv1d is not installed")


def run(backend, layout, projected, mixer):
    """Both directions and all gradients, without what lies at padding."""
    mixer.zero_grad()
    projected = projected.clone().requires_grad_()
    kept = 1.0 if layout.mask is None else layout.mask.unsqueeze(-1)
    outputs = [output.float() * kept for output in backend(projected, mixer, layout, BOTH)]
    weights = torch.linspace(-1, 1, outputs[0].numel(), device=projected.device).view_as(outputs[0])
    sum((output * weights.roll(turn)).sum() for turn, output in enumerate(outputs)).backward()
    gradients = {name: p.grad.clone() for name, p in mixer.named_parameters() if p.grad is not None}
    return {"ahead": outputs[0], "back": outputs[1], "projected": projected.grad.float(), **gradients}


@pytest.mark.gpu
@pytest.mark.usefixtures("conv")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("name", LAYOUTS)
def test_outputs_and_gradients_are_those_of_the_torch_backend(name, dtype, tolerance, device):
    torch.manual_seed(0)
    mixer = Mamba2Mixer(CONFIG).to(device)
    make, leading = LAYOUTS[name]
    projected = torch.randn(*leading, sum(mixer.widths), device=device).to(dtype)
    expected = run(TorchBackend(), make(device), projected.float(), mixer)
    found = run(MambaSsmBackend(), make(device), projected, mixer)
    assert found.keys() == expected.keys()
    errors = {key: ((found[key] - value).abs().max() / value.abs().max()).item() for key, value in expected.items()}
    assert max(errors.values()) <= tolerance, errors


@pytest.mark.gpu
def test_the_total_is_the_sum_of_the_directions(device):
    mixer = Mamba2Mixer(CONFIG).to(device)
    layout = Packed(torch.tensor([0, 100, 130], device=device))
    projected = torch.randn(130, sum(mixer.widths), device=device)
    ahead, back = MambaSsmBackend()(projected, mixer, layout, BOTH)
    torch.testing.assert_close(MambaSsmBackend().total(projected, mixer, layout, BOTH), ahead + back)


def test_a_cpu_is_refused():
    obstacle = MambaSsmBackend.obstacle(CPU)
    assert obstacle is not None
    assert "CUDA" in obstacle
    with pytest.raises((ImportError, RuntimeError)):
        resolve_backend("mamba_ssm", CPU)


def test_a_missing_package_names_the_install_line(monkeypatch):
    def missing():
        msg = "No module named 'mamba_ssm'"
        raise ImportError(msg)

    monkeypatch.setattr(module, "load_kernels", missing)
    with pytest.raises(ImportError, match=r'pip install "scgenemamba\[mamba\]"'):
        BiMambaEncoder(CONFIG, "mamba_ssm")
