"""What integrated gradients explain: the score of a label, or the place of a cell along a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ._constants import LABELS_KEY

if TYPE_CHECKING:
    import numpy.typing as npt

    from scgenemamba.nn import Encoded


class Score(Protocol):
    """Scores of cells for each of several targets."""

    def __call__(self, encoded: Encoded, presence: torch.Tensor) -> torch.Tensor:
        """Score all targets.

        Parameters
        ----------
        encoded
            The cells.
        presence
            How much of each token is there, for heads that read tokens, float ``(t,)`` like ``encoded.tokens``.

        Returns
        -------
        float32 ``(n, n_targets)``
        """


class LabelScore:
    """Log-odds of each label against all others.

    Log-odds do not level off where a cell is certain, as probabilities do.

    Parameters
    ----------
    module
        Module whose heads are read: the classifier on the latent beside the readout of the ranked genes, or the
        published classifier.
    """

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, encoded: Encoded, presence: torch.Tensor) -> torch.Tensor:
        """Log-odds, see :class:`Score`."""
        heads = [logits.float().log_softmax(-1) for logits in self._logits(encoded, presence)]
        # of the mean of the heads' probabilities; its constant factor cancels
        joint = torch.stack(heads).logsumexp(0)
        own = torch.eye(joint.shape[1], dtype=torch.bool, device=joint.device)
        others = joint.unsqueeze(1).masked_fill(own, -torch.inf).logsumexp(-1)
        return joint - others

    def _logits(self, encoded: Encoded, presence: torch.Tensor) -> list[torch.Tensor]:
        objectives = self._module.objectives
        if "cell_type" in objectives:
            # not by the objective, which may keep the gradient from the encoder
            heads = objectives["cell_type"]
            readout = heads.readout(encoded.tokens, encoded.cu_seqlens, encoded.masked, presence)
            return [heads.classifier(encoded.mean), readout]
        config = self._module.config
        start = config.pooling.index("cls") * config.d_model
        return [self._module.published_classifier(encoded.pooled[:, start : start + config.d_model])]


class FittedLabelScore(LabelScore):
    """Log-odds of labels by the logistic regression on the latent that ``fit_annotation`` has made.

    Parameters
    ----------
    weight, bias
        float32 ``(n_latent, n_labels)`` and ``(n_labels,)``.
    """

    def __init__(self, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> None:
        self._weight, self._bias = torch.from_numpy(weight), torch.from_numpy(bias)

    def _logits(self, encoded: Encoded, presence: torch.Tensor) -> list[torch.Tensor]:
        return [encoded.mean @ self._weight.to(encoded.mean) + self._bias.to(encoded.mean)]


class DirectionScore:
    """Place of each cell along one direction of the embedding.

    Parameters
    ----------
    direction
        float32 ``(n_latent,)``, or ``(p,)`` for pooled hidden states.
    pooled
        Whether it is of the pooled hidden states.
    """

    def __init__(self, direction: npt.NDArray[np.float32], *, pooled: bool) -> None:
        self._direction, self._pooled = torch.from_numpy(direction), pooled

    def __call__(self, encoded: Encoded, presence: torch.Tensor) -> torch.Tensor:
        """Inner product with the direction, see :class:`Score`."""
        states = (encoded.pooled if self._pooled else encoded.mean).float()
        return states @ self._direction.to(states).unsqueeze(1)


def label_score(model: Any, module: Any) -> LabelScore:
    """Score of the labels of a model, in the order of ``model.labels``, by its module or a copy of it.

    Raises
    ------
    ValueError
        If the model has fewer than two labels.
    """
    labels = model.labels
    if not labels:
        msg = (
            "The model has no labels to explain: set up the AnnData with `labels_key=` and train again, fit an annotation, "
            "`model.fit_annotation(adata, labels_key=)`, or explain a `direction=`."
        )
        raise ValueError(msg)
    if len(labels) == 1:
        msg = f"The model has the one label {labels[0]!r}, which there is nothing to tell from: explain a `direction=`."
        raise ValueError(msg)
    trained = "cell_type" in module.objectives
    if trained and labels == list(model._state_of(LABELS_KEY)["categorical_mapping"][:-1]):
        return LabelScore(module)
    if model.annotation_:
        arrays = model.annotation_
        return FittedLabelScore(arrays["heads.latent_weight"], arrays["heads.latent_bias"])
    return LabelScore(module)
