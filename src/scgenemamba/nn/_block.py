"""A bidirectional layer: one mixer, both directions, shared projections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._fusion import OF_BOTH, OF_SUM, add_projected, make_aggregator
from ._mixer import Mamba2Mixer
from ._norm import RMSNorm

if TYPE_CHECKING:
    from ._backend import Backend
    from ._config import GeneMambaConfig
    from ._layout import Layout, Reading


class BiMambaBlock(nn.Module):
    """Reads each sequence forwards and backwards with one mixer, and fuses the two residual streams.

    With ``E(X) = X + M(norm(X))`` and the reversal ``F``, the streams are ``E(X)`` and ``F E(F X)``. The mixer's
    projections act on each token alone, so the directions share them, exactly. With the fusion ``"alternate"`` the
    layer is only one of them.

    Parameters
    ----------
    config
        Architecture.
    index
        Place of the layer in the stack; ``"alternate"`` reads forwards in even layers and backwards in odd ones.
    """

    def __init__(self, config: GeneMambaConfig, index: int = 0) -> None:
        super().__init__()
        self.fusion = config.fusion
        self.directions = (index % 2 == 1,) if config.fusion == "alternate" else (False, True)
        self.norm = RMSNorm(config.d_model) if config.pre_norm else None
        self.mixer = Mamba2Mixer(config)
        own = config.fusion in OF_BOTH and not config.shared_aggregator
        self.aggregator = make_aggregator(config.d_model) if own else None

    def forward(
        self,
        x: torch.Tensor,
        layout: Layout,
        backend: Backend,
        shared_aggregator: nn.Linear | None = None,
        reading: Reading = "both",
    ) -> torch.Tensor:
        """Update the hidden states.

        Parameters
        ----------
        x
            Hidden states, contiguous ``(..., d)`` with the leading axes of the layout; may be overwritten if no
            gradient is asked for.
        layout
            How the tokens lie.
        backend
            Runs what lies between the projections.
        shared_aggregator
            The aggregator of all layers, where the layer has none of its own.
        reading
            ``"ahead"`` and ``"back"`` fuse the stream of that direction with itself.

        Returns
        -------
        ``(..., d)``
        """
        normed = x if self.norm is None else backend.norm(x, self.norm)
        projected, weight = self.mixer.in_proj(normed), self.mixer.out_proj.weight
        directions = self.directions if reading == "both" else (reading == "back",)
        if self.fusion in OF_SUM:
            factor, scale = OF_SUM[self.fusion]
            scale *= len(self.directions) / len(directions)
            total = backend.total(projected, self.mixer, layout, directions, scale)
            return add_projected(x, total, weight, factor)
        outputs = backend(projected, self.mixer, layout, directions)
        ahead, back = outputs[0], outputs[-1]
        aggregator = shared_aggregator if self.aggregator is None else self.aggregator
        return OF_BOTH[self.fusion](x, ahead, back, weight, aggregator)
