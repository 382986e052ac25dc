"""Next genes: predict each gene of the ranking from those on one side of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from scgenemamba.nn import TokenHead, cell_of_token

from ._objective import Objective

if TYPE_CHECKING:
    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch


class NextToken(Objective):
    """Cross-entropy of each gene given those ranked before it.

    The encoder reads ahead only, in every layer, so no state knows of the gene that it predicts.

    Parameters
    ----------
    head
        Maps hidden states to logits over the vocabulary.
    weight
        Factor of the loss.
    """

    name: ClassVar[str] = "next gene"
    reads: ClassVar[Literal["clean", "corrupted", "ahead", "back"]] = "ahead"
    key: ClassVar[str] = "next_token"
    predicted_share = 1.0

    def __init__(self, head: TokenHead, *, weight: float = 1.0) -> None:
        super().__init__()
        self.head = head
        self.weight = weight

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Mean cross-entropy over the genes that have one before them, in nats."""
        first = neighbours(encoded.cu_seqlens)
        source, target = (first + 1, first) if self.reads == "back" else (first, first + 1)
        loss = self.head.loss(encoded.hidden[source], encoded.tokens[target].long())
        return {self.key: self.weight * loss}


class PreviousToken(NextToken):
    """Cross-entropy of each gene given those ranked after it, with the encoder reading back only."""

    name: ClassVar[str] = "previous gene"
    reads: ClassVar[Literal["clean", "corrupted", "ahead", "back"]] = "back"
    key: ClassVar[str] = "previous_token"


class LeakyNextToken(NextToken):
    """The paper's public loss: the next gene from an encoder that has read it. For comparisons only.

    With two directions, the state at a position knows of the next gene through the backward scan, so copying it is
    a perfect solution, and the loss says nothing about what was learnt.
    """

    name: ClassVar[str] = "next gene (leaky, as published)"
    reads: ClassVar[Literal["clean", "corrupted", "ahead", "back"]] = "clean"
    key: ClassVar[str] = "leaky_next_token"


def neighbours(cu_seqlens: torch.Tensor) -> torch.Tensor:
    """Positions whose next position belongs to the same cell, int64 ``(m,)``."""
    cell = cell_of_token(cu_seqlens)
    return (cell[1:] == cell[:-1]).nonzero().squeeze(1)
