"""The Mamba-2 mixer: its parameters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from ._backend_torch import TorchBackend
from ._norm import RMSNorm

if TYPE_CHECKING:
    from ._config import GeneMambaConfig
    from ._layout import Layout

# initial values of mamba_ssm's Mamba2
_DT_RANGE = (1e-3, 1e-1)
_DT_FLOOR = 1e-4
_A_RANGE = (1.0, 16.0)


class Mamba2Mixer(nn.Module):
    """Mamba-2 with the parameter names, shapes and initial values of ``mamba_ssm``'s ``Mamba2``, one group.

    What lies between ``in_proj`` and ``out_proj`` is run by a back-end, see :class:`Backend`.

    Parameters
    ----------
    config
        Architecture.
    """

    def __init__(self, config: GeneMambaConfig) -> None:
        super().__init__()
        self.d_inner, self.d_state = config.d_inner, config.d_state
        self.n_heads, self.chunk_size = config.n_heads, config.chunk_size
        channels = self.d_inner + 2 * self.d_state
        self.in_proj = nn.Linear(config.d_model, self.d_inner + channels + self.n_heads, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, config.d_conv, groups=channels, padding=config.d_conv - 1)
        low, high = map(math.log, _DT_RANGE)
        dt = torch.empty(self.n_heads).uniform_(low, high).exp().clamp(min=_DT_FLOOR)
        # inverse of softplus
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))
        self.A_log = nn.Parameter(torch.empty(self.n_heads).uniform_(*_A_RANGE).log())
        self.D = nn.Parameter(torch.ones(self.n_heads))
        # applied by the back-end, with the gate
        self.norm = RMSNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, config.d_model, bias=False)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Widths of the parts of ``in_proj``'s output: gate ``z``, convolved ``x, B, C``, and ``dt``."""
        return self.d_inner, self.d_inner + 2 * self.d_state, self.n_heads

    def forward(self, u: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Mix tokens with those before them, in one direction: ``(..., d)`` to ``(..., d)``."""
        return self.out_proj(TorchBackend().total(self.in_proj(u), self, layout, (False,)))
