"""The Gaussian latent of a cell."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

# A standard deviation between 0.7 % and 12: nothing overflows, and no cell's latent collapses to a point.
_LOG_VARIANCE_RANGE = (-10.0, 5.0)


class GaussianLatent(nn.Module):
    """Mean and variance of a diagonal Gaussian, from a cell's pooled hidden states; in float32 or better.

    Parameters
    ----------
    d_in
        Width of the pooled hidden states.
    n_latent
        Size of the latent.
    """

    def __init__(self, d_in: int, n_latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(d_in, n_latent)
        self.log_variance = nn.Linear(d_in, n_latent)

    def forward(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(n, d_in)`` to mean and variance, ``(n, n_latent)`` each."""
        pooled = pooled.to(torch.promote_types(pooled.dtype, torch.float32))
        with _full_precision(pooled.device.type):
            return self.mean(pooled), self.log_variance(pooled).clamp(*_LOG_VARIANCE_RANGE).exp()


def _full_precision(device_type: str) -> AbstractContextManager[object]:
    # older versions of torch know no autocast for some devices
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
