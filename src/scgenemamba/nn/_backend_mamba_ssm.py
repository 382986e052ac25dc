"""The back-end on the Triton kernels of ``mamba_ssm``, for CUDA."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import torch

from ._conv import causal_conv_silu

if TYPE_CHECKING:
    from ._config import GeneMambaConfig
    from ._layout import Layout
    from ._mixer import Mamba2Mixer
    from ._norm import RMSNorm

# the chunk that the kernels were written for; changes speed, not results
_CHUNK_SIZE = 256
# what causal_conv1d takes
_MAX_TAPS = 4
_CHANNEL_MULTIPLE = 8


class MambaSsmBackend:
    """Directions of a layer on ``mamba_ssm``'s kernels, and ``causal_conv1d``'s where it is installed.

    The kernels read forwards only, so the backward direction runs on reversed copies.
    """

    name = "mamba_ssm"
    packs = True
    replays = False

    def __call__(
        self, projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, directions: tuple[bool, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Output of each direction, see :class:`Backend`."""
        # the gate waits for the order of the tokens to be restored, which spares its copy
        z, xbcdt = projected.tensor_split([mixer.d_inner], -1)
        outputs = []
        for reverse in directions:
            y = _scan(layout.reverse(xbcdt), mixer, layout) if reverse else _scan(xbcdt, mixer, layout)
            y = layout.reverse(y) if reverse else y
            normed = load_kernels().gated_norm(
                y, mixer.norm.weight, None, z=z, eps=mixer.norm.eps, norm_before_gate=False
            )
            outputs.append(normed)
        return tuple(outputs)

    def total(
        self,
        projected: torch.Tensor,
        mixer: Mamba2Mixer,
        layout: Layout,
        directions: tuple[bool, ...],
        scale: float = 1.0,
    ) -> torch.Tensor:
        """Scaled sum of the outputs, see :class:`Backend`."""
        first, *rest = self(projected, mixer, layout, directions)
        total = sum(rest, start=first)
        return total if scale == 1 else total * scale

    def norm(self, x: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        """Normalised values, see :class:`Backend`."""
        return norm(x)

    @staticmethod
    def obstacle(device: torch.device | None = None, config: GeneMambaConfig | None = None) -> str | None:
        """Whether the device or the package is missing, see :class:`Backend`."""
        if device is not None and device.type != "cuda":
            return "its kernels run on CUDA devices only."
        try:
            load_kernels()
        except ImportError as error:
            return (
                f'its kernels cannot be imported ({error}). Install them with `pip install "scgenemamba[mamba]"`; '
                "mamba-ssm has to be built against the torch that is installed."
            )
        return None


class Kernels(NamedTuple):
    """Functions of ``mamba_ssm`` and ``causal_conv1d``.

    Attributes
    ----------
    scan
        ``mamba_chunk_scan_combined``.
    gated_norm
        ``rmsnorm_fn``.
    conv
        ``causal_conv1d_fn``, ``None`` where the package is not installed.
    """

    scan: Callable[..., torch.Tensor]
    gated_norm: Callable[..., torch.Tensor]
    conv: Callable[..., torch.Tensor] | None


@cache
def load_kernels() -> Kernels:
    """Import the kernels, also from a ``mamba_ssm`` that was built without its CUDA extension.

    Raises
    ------
    ImportError
        If a package is missing.
    """
    _import_package("mamba_ssm")
    combined = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    norm = importlib.import_module("mamba_ssm.ops.triton.layernorm_gated")
    return Kernels(combined.mamba_chunk_scan_combined, norm.rmsnorm_fn, combined.causal_conv1d_fn)


def _import_package(name: str) -> None:
    """Import a package; if its ``__init__`` fails, stand in a bare one that only finds the submodules."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        # the package's __init__ asks for Mamba-1's compiled kernel, which Mamba-2's Triton kernels do without
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise
        package = ModuleType(name)
        package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations)
        sys.modules[name] = package


def _scan(xbcdt: torch.Tensor, mixer: Mamba2Mixer, layout: Layout) -> torch.Tensor:
    """Convolution and scan, forwards: ``(..., d_inner + 2n + h)`` to ``(..., d_inner)``."""
    xbc, dt = layout.rows(xbcdt).split(mixer.widths[1:], -1)
    seq_idx = None if layout.seq_idx is None else layout.seq_idx.to(torch.int32)
    x, b, c = _conv_silu(xbc, mixer, seq_idx).split([mixer.d_inner, mixer.d_state, mixer.d_state], -1)
    y = load_kernels().scan(
        x.unflatten(-1, (mixer.n_heads, -1)),
        dt,
        -mixer.A_log.float().exp(),
        b.unsqueeze(2),
        c.unsqueeze(2),
        chunk_size=_CHUNK_SIZE,
        D=mixer.D.float(),
        dt_bias=mixer.dt_bias.float(),
        dt_softplus=True,
        seq_idx=seq_idx,
    )
    return y.reshape(*xbcdt.shape[:-1], mixer.d_inner)


def _conv_silu(xbc: torch.Tensor, mixer: Mamba2Mixer, seq_idx: torch.Tensor | None) -> torch.Tensor:
    weight, bias, kernel = mixer.conv1d.weight, mixer.conv1d.bias, load_kernels().conv
    assert bias is not None
    if kernel is None or weight.shape[-1] > _MAX_TAPS or len(weight) % _CHANNEL_MULTIPLE:
        return causal_conv_silu(xbc, weight, bias, seq_idx=seq_idx)
    if xbc.stride(1) % _CHANNEL_MULTIPLE:
        xbc = xbc.contiguous()
    return kernel(xbc.mT, weight[:, 0], bias, seq_idx=seq_idx, activation="silu").mT
