"""Masked genes: predict hidden genes of the ranking from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from scgenemamba.nn import TokenHead

from ._objective import Objective

if TYPE_CHECKING:
    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch

    from ._random import CellRandom


class MaskedGenes(Objective):
    """Cross-entropy of hidden genes over the whole vocabulary.

    A hidden gene enters the encoder as ``[MASK]`` only, so its prediction cannot depend on it: unlike the
    next-token loss of the paper's public code on a bidirectional encoder, this one does not leak.

    Parameters
    ----------
    head
        Maps hidden states to logits over the vocabulary.
    mask_rate
        Probability that a token is hidden.
    weight
        Factor of the loss.
    last
        Move hidden genes behind all others of their cell. In its place, a hidden gene is given away by the genes around it: most
        genes have one count, and their order is that of their rank factors, the same in all cells. Moved, it can only be told from
        which genes the cell expresses, and how much.
    """

    name: ClassVar[str] = "masked genes"

    def __init__(self, head: TokenHead, *, mask_rate: float = 0.15, weight: float = 1.0, last: bool = False) -> None:
        super().__init__()
        self.hidden_last = last
        self.head = head
        self.mask_rate = self.predicted_share = mask_rate
        self.weight = weight

    def prepare(self, batch: CellBatch, random: CellRandom) -> torch.Tensor:
        """Hide each token with the given probability."""
        lengths = batch["cu_seqlens"].diff()
        cell = torch.repeat_interleave(batch["cell"], lengths)
        starts = torch.repeat_interleave(batch["cu_seqlens"][:-1], lengths)
        position = torch.arange(len(cell), device=cell.device) - starts
        return random.uniform(cell, position) < self.mask_rate

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Mean cross-entropy over the hidden tokens, in nats."""
        hidden = encoded.masked
        if hidden is None or not bool(hidden.any()):
            return {"masked_genes": encoded.hidden.sum() * 0.0}
        loss = self.head.loss(encoded.hidden[hidden], encoded.tokens[hidden].long())
        return {"masked_genes": self.weight * loss}
