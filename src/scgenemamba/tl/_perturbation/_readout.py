"""What of a cell is compared before and after a perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt

    from scgenemamba.model import GeneMambaModel
    from scgenemamba.nn import Encoded


class States(NamedTuple):
    """Cells as they are read out, on the device that reads them: what is not looked at yet need not be waited for.

    Attributes
    ----------
    embedding
        float32 ``(m, p)``.
    probability
        Of the label, float32 ``(m,)``, ``None`` if none was asked for.
    """

    embedding: torch.Tensor
    probability: torch.Tensor | None

    def cpu(self) -> States:
        """The same, where Python can look at them."""
        return States(self.embedding.cpu(), None if self.probability is None else self.probability.cpu())

    def cells(self) -> list[States]:
        """Each cell on its own."""
        n = len(self.embedding)
        probabilities = [None] * n if self.probability is None else [self.probability[i : i + 1] for i in range(n)]
        return [States(self.embedding[i : i + 1], probabilities[i]) for i in range(n)]


class Readout:
    """Reads embeddings and probabilities, and tells how far two readings are apart.

    Parameters
    ----------
    model
        Model.
    representation
        ``"latent"`` or ``"pooled"``.
    label
        Label whose probability is read, ``None`` for none.
    toward
        Embedding that cells may come closer to, ``(p,)``, ``None`` for none.
    """

    def __init__(
        self,
        model: GeneMambaModel,
        representation: str,
        label: Any = None,
        toward: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.module, self.representation = model.module, representation
        self.column = None if label is None else model.network_labels.index(label)
        self.toward = None if toward is None else _unit(np.asarray(toward, dtype=np.float64))

    @property
    def names(self) -> list[str]:
        """Names of the effects."""
        asked = {"distance": True, "toward": self.toward is not None, "probability": self.column is not None}
        return [name for name, wanted in asked.items() if wanted]

    @torch.inference_mode()
    def of(self, encoded: Encoded) -> States:
        """Read encoded cells."""
        return self.given(encoded, encoded.mean if self.representation == "latent" else encoded.pooled)

    @torch.inference_mode()
    def given(self, encoded: Encoded | None, embedding: torch.Tensor) -> States:
        """Read cells of a known embedding ``(m, p)``; for the probability of a label they have to be encoded."""
        if self.column is None or encoded is None:
            return States(embedding, None)
        return States(embedding, self.module.classify(encoded)[:, self.column])

    def effects(self, before: States, after: States) -> dict[str, npt.NDArray[np.float64]]:
        """How much each of ``after`` differs from that of ``before``, or from its single cell.

        Returns
        -------
        By name, ``(m,)`` each: ``"distance"``, 1 - cosine of both embeddings; ``"toward"``, change of the cosine with the target;
        ``"probability"``, change of the probability of the label.
        """
        before, after = before.cpu(), after.cpu()
        first, second = (_unit(states.embedding.double().numpy()) for states in (before, after))
        # 1 - cosine, without the loss of digits
        found = {"distance": 0.5 * ((second - first) ** 2).sum(1)}
        if self.toward is not None:
            found["toward"] = (second - first) @ self.toward
        if before.probability is not None and after.probability is not None:
            found["probability"] = (after.probability.double() - before.probability.double()).numpy()
        return found


def _unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(length > 0, length, 1.0)
