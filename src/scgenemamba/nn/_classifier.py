"""Head over the labels of cells."""

from __future__ import annotations

import torch
from torch import nn

_HIDDEN = 128


class Classifier(nn.Module):
    """Logits over labels.

    Without dropout it draws no random numbers, so training it leaves those of the other objectives as they are.

    Parameters
    ----------
    d_in
        Width of the input.
    n_labels
        Number of labels.
    """

    def __init__(self, d_in: int, n_labels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(d_in), nn.Linear(d_in, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, n_labels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, d_in)`` to logits ``(n, n_labels)``."""
        return self.layers(x)
