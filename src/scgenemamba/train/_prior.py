"""What the latent of a cell is expected to be before its counts are seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributions import Normal


class MixturePrior(nn.Module):
    """Mixture of diagonal Gaussians whose means, scales and weights are learned.

    A single normal distribution costs every cell type its distance from the centre, and so pushes types together; a
    mixture has a place for each, and still none for a batch.

    Parameters
    ----------
    n_latent
        Size of the latent.
    n_components
        Number of Gaussians.
    """

    def __init__(self, n_latent: int, n_components: int = 24) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.randn(n_components, n_latent))
        self.log_scales = nn.Parameter(torch.zeros(n_components, n_latent))
        self.log_weights = nn.Parameter(torch.zeros(n_components))

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Log-density ``(n,)`` of latents ``(n, n_latent)``."""
        components = Normal(self.means, self.log_scales.exp()).log_prob(z.unsqueeze(1)).sum(-1)
        return (components + self.log_weights.log_softmax(0)).logsumexp(1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        own = {f"{prefix}{name}": parameter for name, parameter in self.named_parameters()}
        if not any(name in state_dict for name in own):
            # models saved before there was a mixture had a standard normal prior: all components at 0, of scale 1
            state_dict.update({name: torch.zeros_like(parameter) for name, parameter in own.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
