"""Head over the vocabulary."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_INITIAL_STD = 0.02
# small enough for a CPU's cache; a GPU wants large products
_LOGIT_BYTES = {"cpu": 16 * 2**20}
_LOGIT_BYTES_ELSEWHERE = 512 * 2**20


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
        Rows whose logits exist at a time, ``None`` for what suits the device.
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
        self.chunk_rows: int | None = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states ``(..., d)`` to logits ``(..., n_tokens)``."""
        return F.linear(hidden, self.weight, self.bias)

    def rows_at_a_time(self, device: torch.device) -> int:
        """Rows whose logits exist at a time on a device."""
        logit_bytes = _LOGIT_BYTES.get(device.type, _LOGIT_BYTES_ELSEWHERE)
        return self.chunk_rows or max(1, logit_bytes // (4 * len(self.weight)))

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
        logit_bytes = _LOGIT_BYTES.get(hidden.device.type, _LOGIT_BYTES_ELSEWHERE)
        chunk_rows = self.chunk_rows or max(1, logit_bytes // (4 * len(self.weight)))
        total = _SummedCrossEntropy.apply(hidden, self.weight, self.bias, targets, chunk_rows, torch.is_grad_enabled())
        return total / len(targets)


class _SummedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy of linear logits, a chunk of rows at a time.

    The gradients are taken in the forward pass, while the logits of a chunk are at hand, so that they are computed once and never
    kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        targets: torch.Tensor,
        chunk_rows: int,
        with_gradients: bool,
    ) -> torch.Tensor:
        accurate = torch.promote_types(hidden.dtype, weight.dtype)
        # products on a GPU run in the type of the hidden states, as under autocast; softmax and sums do not
        kind = hidden.dtype if hidden.is_cuda else accurate
        total = torch.zeros((), dtype=accurate, device=hidden.device)
        gradients = [torch.zeros_like(t, dtype=accurate) for t in (hidden, weight, bias)] if with_gradients else []
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.to(kind)
            for start in range(0, len(targets), chunk_rows):
                rows = hidden[start : start + chunk_rows].to(kind)
                wanted = targets[start : start + chunk_rows].unsqueeze(-1)
                log_probabilities = F.linear(rows, matrix, bias.to(kind)).log_softmax(-1, dtype=accurate)
                total -= log_probabilities.gather(-1, wanted).sum()
                if with_gradients:
                    # softmax minus one at the target: the gradient of the logits
                    slope = log_probabilities.exp_()
                    slope.scatter_add_(-1, wanted, slope.new_full(wanted.shape, -1.0))
                    gradients[2] += slope.sum(0)
                    slope = slope.to(kind)
                    gradients[0][start : start + chunk_rows] = slope @ matrix
                    if kind == accurate:
                        gradients[1].addmm_(slope.T, rows)
                    else:
                        gradients[1] += slope.T @ rows
        ctx.save_for_backward(*gradients)
        ctx.dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, bias = (gradient * grad_outputs[0] for gradient in ctx.saved_tensors)
        return hidden.to(ctx.dtype), weight, bias, None, None, None
