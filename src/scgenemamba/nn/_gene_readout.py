"""Linear readout of a cell's ranked genes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ._layout import cell_of_token

# AdamW moves a weight by about the learning rate a step; a table of genes needs larger steps than a network.
_GAIN = 10.0


class GeneReadout(nn.Module):
    """Logits that are linear in the genes of a cell, each weighted by its rank.

    A gene at place ``r`` of ``L`` counts ``1 - r / L``. This is logistic regression on ranks: no contextual encoder
    should be worse than it, so a classifier keeps it at its side.

    Parameters
    ----------
    n_tokens
        Rows of the table.
    n_labels
        Number of labels.
    """

    def __init__(self, n_tokens: int, n_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_tokens, n_labels))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def forward(
        self,
        tokens: torch.Tensor,
        cu_seqlens: torch.Tensor,
        masked: torch.Tensor | None,
        presence: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits of each cell.

        Parameters
        ----------
        tokens
            Ranked tokens, int ``(t,)``.
        cu_seqlens
            Where the cells begin and end, int ``(n + 1,)``.
        masked
            Tokens to leave out, bool ``(t,)``, or ``None``.
        presence
            How much of each token is there, float ``(t,)`` from 0 (left out) to 1; ``None`` for all of it.

        Returns
        -------
        float32 ``(n, n_labels)``
        """
        lengths = cu_seqlens.diff()
        cell = cell_of_token(cu_seqlens)
        place = torch.arange(len(tokens), device=tokens.device) - cu_seqlens[cell]
        value = 1 - place.to(self.weight.dtype) / lengths[cell]
        if masked is not None:
            value = value * ~masked
        if presence is not None:
            value = value * presence
        with torch.autocast(tokens.device.type, enabled=False):
            summed = F.embedding_bag(
                tokens.long(), self.weight, cu_seqlens[:-1].long(), mode="sum", per_sample_weights=value
            )
        return _GAIN * (summed + self.bias)
