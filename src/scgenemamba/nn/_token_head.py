"""Head over the vocabulary."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

_INITIAL_STD = 0.02
_LOGIT_BYTES = 64 * 2**20


class TokenHead(nn.Module):
    """Logits over the vocabulary, and their cross-entropy without ever holding all of them.

    Parameters
    ----------
    d_model
        Width of the hidden states.
    n_tokens
        Size of the vocabulary.
    tied
        Embedding table to use as the weight, a parameter ``(n_tokens, d_model)``.

    Attributes
    ----------
    chunk_rows
        Rows whose logits exist at a time.
    """

    def __init__(self, d_model: int, n_tokens: int, *, tied: torch.Tensor | None = None) -> None:
        super().__init__()
        if tied is not None and not isinstance(tied, nn.Parameter):
            msg = f"The tied weight must be a parameter, got {type(tied).__name__}."
            raise TypeError(msg)
        if tied is not None and tied.shape != (n_tokens, d_model):
            msg = f"The tied weight has shape {tuple(tied.shape)}, the head needs {(n_tokens, d_model)}."
            raise ValueError(msg)
        self.weight = nn.Parameter(torch.empty(n_tokens, d_model)) if tied is None else tied
        if tied is None:
            nn.init.normal_(self.weight, std=_INITIAL_STD)
        self.bias = nn.Parameter(torch.zeros(n_tokens))
        self.chunk_rows = max(1, _LOGIT_BYTES // (4 * n_tokens))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states ``(..., d)`` to logits ``(..., n_tokens)``."""
        return F.linear(hidden, self.weight, self.bias)

    def loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats; zero if there are no rows.

        Parameters
        ----------
        hidden
            Hidden states, ``(r, d)``.
        targets
            Token to predict from each, int64 ``(r,)``.

        Returns
        -------
        Scalar.
        """
        if not len(targets):
            return hidden.sum() * 0.0
        sums = [
            # only the hidden states are kept; the logits are computed again for the gradient
            checkpoint(self._chunk_loss, rows, wanted, use_reentrant=False, preserve_rng_state=False)
            for rows, wanted in zip(hidden.split(self.chunk_rows), targets.split(self.chunk_rows), strict=True)
        ]
        return torch.stack(sums).sum() / len(targets)

    def _chunk_loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits, targets, reduction="sum")
