"""Joining the two directions of a layer, with its output projection shared between them.

``x`` is the layer's input, ``ahead`` and ``back`` the directions before the output projection ``W_o``. Each
function equals fusing the two residual streams ``x + W_o ahead`` and ``x + W_o back``, with fewer products.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import nn

#: Fusions that need the directions' sum only: factors of ``x`` and of ``W_o`` times the sum. Layers of
#: ``"alternate"`` have a single direction.
OF_SUM = MappingProxyType({"mean": (1.0, 0.5), "sum": (2.0, 1.0), "alternate": (1.0, 1.0)})


def add_projected(x: torch.Tensor, total: torch.Tensor, weight: torch.Tensor, factor: float) -> torch.Tensor:
    """``factor x + W_o total``; without a gradient, ``x`` is overwritten where types allow.

    Parameters
    ----------
    x
        Input of the layer, ``(..., d)``.
    total
        Scaled sum of the directions, ``(..., d_inner)``.
    weight
        ``W_o``, ``(d, d_inner)``.
    factor
        Factor of ``x``.

    Returns
    -------
    ``(..., d)``, of the type of ``x``.
    """
    if x.dtype == total.dtype and not torch.is_grad_enabled():
        # the product is added where it is written, which spares two passes
        x.flatten(0, -2).addmm_(total.flatten(0, -2), weight.mT.to(x.dtype), beta=factor)
        return x
    return torch.add(F.linear(total, weight), x, alpha=factor)


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


#: Maps ``x (..., d)``, ``ahead (..., d_inner)``, ``back (..., d_inner)``, ``W_o (d, d_inner)`` and the aggregator
#: to the layer's output ``(..., d)``.
OF_BOTH: MappingProxyType[str, Callable[..., torch.Tensor]] = MappingProxyType({"gate": gate, "concat": concat})


def make_aggregator(d_model: int) -> nn.Linear:
    """Weights of gate and concat: from both streams, ``2d``, to ``d``."""
    return nn.Linear(2 * d_model, d_model)


def _halves(aggregator: nn.Linear | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if aggregator is None:
        msg = "This fusion needs an aggregator: the layer's own, or the shared one passed to it."
        raise ValueError(msg)
    first, second = aggregator.weight.chunk(2, dim=1)
    return first, second, aggregator.bias
