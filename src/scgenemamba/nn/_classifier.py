"""Heads over the labels of cells."""

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


class PublishedClassifier(nn.Module):
    """Classifier of published fine-tuned weights, which reads the hidden state of ``[CLS]``.

    Parameters
    ----------
    d_in
        Width of the hidden state.
    n_labels
        Number of labels.
    n_hidden, n_layers
        Width of the hidden layers, and number of linear maps.
    """

    def __init__(self, d_in: int, n_labels: int, n_hidden: int = 512, n_layers: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(n_layers - 1):
            layers += [nn.Linear(n_hidden if i else d_in, n_hidden), nn.BatchNorm1d(n_hidden)]
            layers += [nn.Dropout(0.5), nn.LeakyReLU(0.1)]
        self.layers = nn.Sequential(*layers, nn.Linear(n_hidden, n_labels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, d_in)`` to logits ``(n, n_labels)``."""
        return self.layers(x)
