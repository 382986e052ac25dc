"""The back-end in plain PyTorch, for any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ._conv import causal_conv_silu
from ._norm import rms_norm
from ._ssd import ssd_chunked

if TYPE_CHECKING:
    from ._config import GeneMambaConfig
    from ._layout import Layout
    from ._mixer import Mamba2Mixer
    from ._norm import RMSNorm


def scan_inputs(
    projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gate, what enters the convolution, and positive steps: ``(b, l, d_inner)``, ``(b, l, d_inner + 2n)``, ``(b, l, h)``; the last two are zero at padding."""
    z, xbc, dt = layout.rows(projected).split(mixer.widths, -1)
    dt = F.softplus(dt.to(torch.promote_types(projected.dtype, torch.float32)) + mixer.dt_bias)
    if layout.mask is not None:
        # from the end of a sequence its padding is read first: with dt = 0 it leaves the state at zero
        xbc = xbc * layout.mask.unsqueeze(-1)
        dt = dt * layout.mask.unsqueeze(-1)
    return z, xbc, dt


class TorchBackend:
    """Directions of a layer in plain PyTorch.

    Nothing is reversed: the backward direction reads the later tokens where they lie.
    """

    name = "torch"
    packs = False
    replays = False

    def __call__(
        self, projected: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, directions: tuple[bool, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Output of each direction, see :class:`Backend`."""
        return self._run(projected, mixer, layout, directions, mixer.norm.weight)

    def _run(
        self,
        projected: torch.Tensor,
        mixer: Mamba2Mixer,
        layout: Layout,
        directions: tuple[bool, ...],
        norm_weight: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        z, xbc, dt = scan_inputs(projected, mixer, layout)
        gate = F.silu(z.to(dt.dtype))
        outputs = []
        for reverse in directions:
            y = self._scan(xbc, dt, mixer, layout, reverse)
            out = rms_norm(y, norm_weight, mixer.norm.eps, gate)
            outputs.append(out.view(*projected.shape[:-1], mixer.d_inner))
        return tuple(outputs)

    def _scan(
        self, xbc: torch.Tensor, dt: torch.Tensor, mixer: Mamba2Mixer, layout: Layout, reverse: bool
    ) -> torch.Tensor:
        """Convolution and scan in one direction: ``(b, l, d_inner + 2n)`` to ``(b, l, d_inner)``."""
        seq_idx, bias = layout.seq_idx, mixer.conv1d.bias
        assert bias is not None
        xbc = causal_conv_silu(xbc, mixer.conv1d.weight, bias, seq_idx=seq_idx, reverse=reverse)
        x, b, c = xbc.split([mixer.d_inner, mixer.d_state, mixer.d_state], -1)
        y = ssd_chunked(
            x.unflatten(-1, (mixer.n_heads, -1)),
            dt,
            -mixer.A_log.to(dt.dtype).exp(),
            b,
            c,
            mixer.D,
            chunk_size=mixer.chunk_size,
            seq_idx=seq_idx,
            reverse=reverse,
        )
        return y.flatten(-2)

    def total(
        self,
        projected: torch.Tensor,
        mixer: Mamba2Mixer,
        layout: Layout,
        directions: tuple[bool, ...],
        scale: float = 1.0,
    ) -> torch.Tensor:
        """Scaled sum of the outputs, see :class:`Backend`."""
        # scaling the small weight spares a pass over the outputs
        weight = mixer.norm.weight if scale == 1 else mixer.norm.weight * scale
        first, *rest = self._run(projected, mixer, layout, directions, weight)
        return sum(rest, start=first)

    def norm(self, x: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        """Normalised values, see :class:`Backend`."""
        return norm(x)

    @staticmethod
    def obstacle(device: torch.device | None = None, config: GeneMambaConfig | None = None) -> str | None:
        """Nothing: it runs everywhere."""
        return None
