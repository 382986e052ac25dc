"""All kernels of the fused back-end compile for an NVIDIA GPU, where Triton is installed but there is no GPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)
if torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the kernels are run by test_backend_fused.py here", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from scgenemamba.nn._triton._directions import _compile_together
from scgenemamba.nn._triton._shape import Inputs, Shape
from scgenemamba.nn._triton._walk import Walk


class Hopper:
    """Stands in for the driver of an H100, as far as compiling asks it."""

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


@pytest.fixture(autouse=True)
def hopper(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(driver, "_active", Hopper())


@pytest.mark.skipif(
    not hasattr(triton, "AsyncCompileMode"), reason="this release of Triton compiles at the first launch"
)
@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("longest", [2_048, 16_384])
@pytest.mark.parametrize(
    ("dtype", "directions", "scale", "precision"),
    [
        (torch.bfloat16, (False, True), 0.5, "tf32x3"),
        (torch.bfloat16, (True,), 1.0, "tf32"),
        (torch.float32, (False, True), None, "tf32x3"),
        (torch.float32, (False, True), None, "tf32"),
    ],
)
def test_all_kernels_of_a_layer_compile(dtype, directions, scale, precision, longest, with_gradient):
    shape = Shape(2, 64, 64, 4, directions, scale, 1e-5, precision)
    lengths = torch.tensor([longest], dtype=torch.int32)
    walk = Walk(
        torch.zeros_like(lengths), lengths, longest, 64 if dtype.itemsize == 2 else 32, 4_096, 1_024, longest, False
    )
    channels, heads = shape.channels, shape.heads
    parameters = [
        torch.empty(size) for size in [(channels, 1, 4), (channels,), (heads,), (heads,), (heads,), (shape.inner,)]
    ]
    inputs = Inputs(torch.empty(longest, shape.width, dtype=dtype), *parameters)
    # a kernel that does not compile raises
    _compile_together(inputs, shape, walk, with_gradient=with_gradient)
