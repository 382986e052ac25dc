"""Cell type: classify the labelled cells from the latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F

from scgenemamba.nn import Classifier

from ._objective import Objective

if TYPE_CHECKING:
    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch


class CellType(Objective):
    """Cross-entropy of the labelled cells; unlabelled cells do not take part.

    Parameters
    ----------
    classifier
        Maps the latent to logits over the labels; code ``n_labels`` means unlabelled.
    detached
        Train the classifier on the latent without touching the encoder.
    weight
        Factor of the loss.
    """

    name: ClassVar[str] = "cell type"

    def __init__(self, classifier: Classifier, *, detached: bool = False, weight: float = 1.0) -> None:
        super().__init__()
        self.classifier = classifier
        self.detached = detached
        self.weight = weight

    def logits(self, encoded: Encoded) -> torch.Tensor:
        """Logits over the labels, float32 ``(n, n_labels)``."""
        mean = encoded.mean.detach() if self.detached else encoded.mean
        return self.classifier(mean)

    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Mean cross-entropy over the labelled cells, in nats; zero where there are none."""
        logits = self.logits(encoded)
        labels = batch["labels"].squeeze(-1)
        labelled = labels < logits.shape[1]
        total = F.cross_entropy(logits[labelled], labels[labelled], reduction="sum")
        return {"cell_type": self.weight * total / labelled.sum().clamp(min=1)}
