"""Joining the two directions of a layer, with its output projection shared between them.

``x`` is the layer's input, ``ahead`` and ``back`` the directions before the output projection ``W_o``. Each
function equals fusing the two residual streams ``x + W_o ahead`` and ``x + W_o back``, with fewer products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

#: Maps ``x (..., d)``, ``ahead (..., d_inner)``, ``back (..., d_inner)``, ``W_o (d, d_inner)`` and the aggregator
#: (``None`` for mean and sum) to the layer's output ``(..., d)``.
Fuse = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, nn.Linear | None], torch.Tensor]


def mean(
    x: torch.Tensor, ahead: torch.Tensor, back: torch.Tensor, weight: torch.Tensor, aggregator: nn.Linear | None
) -> torch.Tensor:
    """Mean of the streams, ``(..., d)``."""
    # halving the small weight spares a pass over the activations
    return x + F.linear(ahead + back, 0.5 * weight)


def total(
    x: torch.Tensor, ahead: torch.Tensor, back: torch.Tensor, weight: torch.Tensor, aggregator: nn.Linear | None
) -> torch.Tensor:
    """Sum of the streams, ``(..., d)``."""
    return 2 * x + F.linear(ahead + back, weight)


def concat(
    x: torch.Tensor, ahead: torch.Tensor, back: torch.Tensor, weight: torch.Tensor, aggregator: nn.Linear | None
) -> torch.Tensor:
    """Linear map of both streams, ``(..., d)``."""
    first, second, bias = _halves(aggregator)
    return F.linear(x, first + second, bias) + F.linear(ahead, first @ weight) + F.linear(back, second @ weight)


def gate(
    x: torch.Tensor, ahead: torch.Tensor, back: torch.Tensor, weight: torch.Tensor, aggregator: nn.Linear | None
) -> torch.Tensor:
    """Mean of the streams weighted by a gate per channel, ``(..., d)``."""
    first, second, bias = _halves(aggregator)
    ahead, back = x + F.linear(ahead, weight), x + F.linear(back, weight)
    z = torch.sigmoid(F.linear(ahead, first, bias) + F.linear(back, second))
    return torch.lerp(back, ahead, z.to(ahead.dtype))


#: Names of the configuration.
FUSIONS: dict[str, Fuse] = {"mean": mean, "sum": total, "gate": gate, "concat": concat}


def make_aggregator(d_model: int) -> nn.Linear:
    """Weights of gate and concat: from both streams, ``2d``, to ``d``."""
    return nn.Linear(2 * d_model, d_model)


def _halves(aggregator: nn.Linear | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if aggregator is None:
        msg = "This fusion needs an aggregator: the layer's own, or the shared one passed to it."
        raise ValueError(msg)
    first, second = aggregator.weight.chunk(2, dim=1)
    return first, second, aggregator.bias
