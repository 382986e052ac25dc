"""Perturbed cells, read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scgenemamba.nn import send

from ._edits import Kind, Sequences, edited
from ._readout import Readout, States

if TYPE_CHECKING:
    import numpy.typing as npt

# sequences of a GPU's pass; a CPU's caches do not mind
_TOKENS_AT_A_TIME = 131_072


class ExactReader:
    """Encodes sequences of tokens and reads them out, in full precision.

    Parameters
    ----------
    module
        The model's module.
    readout
        What is read.
    batch_size
        Sequences at a time, ``None`` for what a device holds; does not change the result.

    Attributes
    ----------
    n_read
        Sequences read until now.
    """

    def __init__(self, module: Any, readout: Readout, batch_size: int | None = None) -> None:
        self.module, self.readout, self.batch_size = module, readout, batch_size
        self.n_read = 0

    def changed(self, ranking: npt.NDArray[np.int32], changes: Sequence[npt.NDArray[np.int32]], kind: Kind) -> States:
        """Read a cell under each change, see :func:`edited`."""
        width = self.module.config.max_tokens
        size = self.batch_size or max(1, _TOKENS_AT_A_TIME // max(1, min(len(ranking) + 1, width)))
        parts = [
            self(edited(ranking, changes[start : start + size], kind, width)) for start in range(0, len(changes), size)
        ]
        return _joined(parts)

    @torch.inference_mode()
    def __call__(self, sequences: Sequences) -> States:
        """Read sequences."""
        self.n_read += len(sequences.cu_seqlens) - 1
        tokens = send(torch.from_numpy(sequences.tokens), self.module.device)
        batch = {"tokens": tokens, "cu_seqlens": torch.from_numpy(sequences.cu_seqlens)}
        return self.readout.of(self.module.encode(batch))


def _joined(parts: Sequence[States]) -> States:
    probabilities = [part.probability for part in parts if part.probability is not None]
    return States(torch.cat([part.embedding for part in parts]), torch.cat(probabilities) if probabilities else None)
