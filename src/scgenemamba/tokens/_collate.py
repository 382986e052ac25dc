"""The ragged batch that every source of cells ends in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Required, TypedDict

import numpy as np
import numpy.typing as npt
import torch


class CellBatch(TypedDict, total=False):
    """Tensors of a batch of ``n`` cells with ``t`` tokens in all; only the tokens are always there.

    Attributes
    ----------
    tokens
        int32 ``(t,)``, the ranked genes of the cells end to end, not cut.
    cu_seqlens
        int64 ``(n + 1,)``, where each cell's tokens begin and end.
    cell
        int64 ``(n,)``, row of each cell in its source; keys the random masks.
    expression
        float32 ``(n, g)``, values of the decoder's genes, linear scale.
    total
        float32 ``(n, 1)``, sum of the values of all genes.
    batch, labels
        int64 ``(n, 1)``; -1 is a batch that the decoder does not know.
    extra_categorical_covs, extra_continuous_covs
        int64 ``(n, c)`` and float32 ``(n, c)``.
    size_factor
        float32 ``(n, 1)``.
    """

    tokens: Required[torch.Tensor]
    cu_seqlens: Required[torch.Tensor]
    cell: torch.Tensor
    expression: torch.Tensor
    total: torch.Tensor
    batch: torch.Tensor
    labels: torch.Tensor
    extra_categorical_covs: torch.Tensor
    extra_continuous_covs: torch.Tensor
    size_factor: torch.Tensor


def to_tensors(arrays: Mapping[str, npt.NDArray[np.generic]]) -> CellBatch:
    """Wrap NumPy arrays as the tensors of a :class:`CellBatch`, without copying."""
    return CellBatch(**{key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()})  # type: ignore[typeddict-item]
