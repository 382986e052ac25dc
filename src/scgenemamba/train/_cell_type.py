"""Cell type: classify the labelled cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F

from scgenemamba.nn import Classifier, GeneReadout

from ._objective import Objective

if TYPE_CHECKING:
    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch


class CellType(Objective):
    """Cross-entropy of the labelled cells; unlabelled cells do not take part.

    Two heads are trained side by side, one on the latent and one linear in the ranked genes, and their
    probabilities are averaged: the second holds the ground where there are few labelled cells.

    Parameters
    ----------
    classifier
        Maps the latent to logits over the labels; code ``n_labels`` means unlabelled.
    readout
        Maps the ranked genes to logits over the labels.
    detached
        Train the classifier on the latent without touching the encoder.
    weight
        Factor of the loss.
    """

    name: ClassVar[str] = "cell type"

    def __init__(
        self, classifier: Classifier, readout: GeneReadout, *, detached: bool = False, weight: float = 1.0
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.readout = readout
        self.detached = detached
        self.weight = weight

    def logits(self, encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits over the labels of both heads, float32 ``(n, n_labels)`` each."""
        mean = encoded.mean.detach() if self.detached else encoded.mean
        return self.classifier(mean), self.readout(encoded.tokens, encoded.cu_seqlens, encoded.masked)

    def probabilities(self, encoded: Encoded) -> torch.Tensor:
        """Mean of the probabilities of both heads, float32 ``(n, n_labels)``."""
        return torch.stack([logits.softmax(-1) for logits in self.logits(encoded)]).mean(0)

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Mean cross-entropy over the labelled cells, in nats, summed over the heads; zero where there are none."""
        heads = self.logits(encoded)
        labels = batch["labels"].squeeze(-1)
        labelled = labels < heads[0].shape[1]
        total = torch.stack([F.cross_entropy(logits[labelled], labels[labelled], reduction="sum") for logits in heads])
        return {"cell_type": self.weight * total.sum() / labelled.sum().clamp(min=1)}
