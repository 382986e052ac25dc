"""The back-end for NVIDIA GPUs: our own Triton kernels, which read each sequence in both directions where it lies."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

if TYPE_CHECKING:
    from ._config import GeneMambaConfig
    from ._layout import Layout
    from ._mixer import Mamba2Mixer
    from ._norm import RMSNorm

_CAPABILITY = (8, 0)
_TRITON = (3, 4)
# in half precision; full precision has no tensor cores and less room
_CHUNK, _CHUNK_FLOAT32 = 64, 32
_SEGMENT, _PIECE = 4096, 1024
_LARGEST_CONV = 4
# (headdim, d_state) for which gradients were checked on a GPU: for others Triton 3.6 compiles wrong products
_SIZES = (
    *((16, 16), (16, 32), (32, 32), (64, 64), (64, 128)),
    *((128, d_state) for d_state in (16, 32, 64, 128)),
)


class FusedBackend:
    """Both directions from one projected buffer: nothing is reversed, concatenated or padded in memory."""

    name = "fused"
    packs = True
    replays = True

    def __init__(self) -> None:
        self._walks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def __call__(
        self, projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, directions: tuple[bool, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Output of each direction, see :class:`Backend`."""
        out = self._run(projected, mixer, layout, directions)
        return tuple(part.view(*projected.shape[:-1], mixer.d_inner) for part in out.unbind())

    def total(
        self,
        projected: torch.Tensor,
        mixer: Mamba2Mixer,
        layout: Layout,
        directions: tuple[bool, ...],
        scale: float = 1.0,
    ) -> torch.Tensor:
        """Scaled sum of the outputs, see :class:`Backend`."""
        out = self._run(projected, mixer, layout, directions, scale)
        return out.view(*projected.shape[:-1], mixer.d_inner)

    def norm(self, x: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        """Normalised values, see :class:`Backend`."""
        from ._triton._rms_norm import rms_norm

        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.cuda.device_of(x):
            return rms_norm(x.flatten(0, -2), norm.weight, norm.eps, dtype).view(x.shape)

    @staticmethod
    def obstacle(device: torch.device | None = None, config: GeneMambaConfig | None = None) -> str | None:
        """A missing Triton, a device that is no recent NVIDIA GPU, or sizes that were not checked."""
        if find_spec("triton") is None:
            return (
                "Triton is not installed; it comes with the CUDA builds of PyTorch for Linux, or `pip install triton`."
            )
        import triton

        if tuple(map(int, triton.__version__.split(".")[:2])) < _TRITON:
            return f"it needs Triton {_TRITON[0]}.{_TRITON[1]} or newer, which comes with newer releases of PyTorch."
        if config is not None and (sizes := (config.headdim, config.d_state)) not in _SIZES:
            return f"it needs (headdim, d_state) to be one of {', '.join(map(str, _SIZES))}, not {sizes}."
        if config is not None and config.d_conv > _LARGEST_CONV:
            return f"it needs d_conv to be at most {_LARGEST_CONV}, not {config.d_conv}."
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        if device is None or (interpreted and device.type == "cpu"):
            return None
        if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < _CAPABILITY:
            return f"it needs an NVIDIA GPU of compute capability {_CAPABILITY[0]}.{_CAPABILITY[1]} or newer."
        return None

    def _run(
        self,
        projected: torch.Tensor,
        mixer: Mamba2Mixer,
        layout: Layout,
        directions: tuple[bool, ...],
        scale_of_sum: float | None = None,
    ) -> torch.Tensor:
        from ._triton._directions import run
        from ._triton._shape import Inputs

        shape = _shape(
            mixer.n_heads,
            mixer.d_inner // mixer.n_heads,
            mixer.d_state,
            mixer.conv1d.weight.shape[-1],
            directions,
            scale_of_sum,
            mixer.norm.eps,
            "tf32x3" if torch.get_float32_matmul_precision() == "highest" else "tf32",
        )
        flat = projected.reshape(-1, projected.shape[-1]).contiguous()
        bias = mixer.conv1d.bias
        assert bias is not None
        inputs = Inputs(flat, mixer.conv1d.weight, bias, mixer.dt_bias, mixer.A_log, mixer.D, mixer.norm.weight)
        # a program finds its device through torch's current one
        with torch.cuda.device_of(flat):
            return run(inputs, shape, self._walk(layout, flat))

    def _walk(self, layout: Layout, flat: torch.Tensor) -> Any:
        """Tables of a batch, shared by its layers."""
        from ._triton._walk import Walk

        chunk = _CHUNK if flat.element_size() == 2 else _CHUNK_FLOAT32
        walks = self._walks.setdefault(layout, {})
        if chunk not in walks:
            starts, lengths = layout.bounds
            walks[chunk] = Walk(
                starts.int(),
                lengths.int(),
                len(flat),
                chunk,
                _SEGMENT,
                min(_PIECE, _SEGMENT),
                layout.max_length,
                layout.mask is not None,
            )
        return walks[chunk]


@cache
def _shape(*sizes: Any) -> Any:
    from ._triton._shape import Shape

    return Shape(*sizes)
