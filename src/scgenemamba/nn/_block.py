"""A bidirectional layer: one mixer, both directions, shared projections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._fusion import FUSIONS, make_aggregator
from ._mixer import Mamba2Mixer
from ._norm import RMSNorm

if TYPE_CHECKING:
    from ._backend import Backend
    from ._config import GeneMambaConfig
    from ._layout import Layout


class BiMambaBlock(nn.Module):
    """Reads each sequence forwards and backwards with one mixer, and fuses the two residual streams.

    With ``E(X) = X + M(norm(X))`` and the reversal ``F``, the streams are ``E(X)`` and ``F E(F X)``. The mixer's
    projections act on each token alone, so the directions share them, exactly.

    Parameters
    ----------
    config
        Architecture.
    backend
        Runs what lies between the projections.
    """

    def __init__(self, config: GeneMambaConfig, backend: Backend) -> None:
        super().__init__()
        self.backend = backend
        self.norm = RMSNorm(config.d_model) if config.pre_norm else nn.Identity()
        self.mixer = Mamba2Mixer(config)
        self.fuse = FUSIONS[config.fusion]
        own = config.fusion in ("gate", "concat") and not config.shared_aggregator
        self.aggregator = make_aggregator(config.d_model) if own else None

    def forward(self, x: torch.Tensor, layout: Layout, shared_aggregator: nn.Linear | None = None) -> torch.Tensor:
        """Update the hidden states.

        Parameters
        ----------
        x
            Hidden states, ``(..., d)`` with the leading axes of the layout.
        layout
            How the tokens lie.
        shared_aggregator
            The aggregator of all layers, where the layer has none of its own.

        Returns
        -------
        ``(..., d)``
        """
        ahead, back = self.backend(self.mixer.in_proj(self.norm(x)), self.mixer, layout)
        aggregator = shared_aggregator if self.aggregator is None else self.aggregator
        return self.fuse(x, ahead, back, self.mixer.out_proj.weight, aggregator)
