"""What all training objectives have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from scgenemamba.nn import Encoded
    from scgenemamba.tokens import CellBatch

    from ._random import CellRandom


class Objective(nn.Module, ABC):
    """One loss (or a few that belong together) and the heads it needs.

    Attributes
    ----------
    name
        Name in messages and in the model.
    reads
        The encoding that the loss reads: of the cells as they are (``"clean"``), with the tokens hidden that some
        objective of the run hides (``"corrupted"``; without such an objective the same), or of the cells read in one
        direction only (``"ahead"``, ``"back"``).
    predicted_share
        Share of the tokens that are predicted out of the vocabulary.
    hidden_last
        Whether the tokens that are hidden are moved behind the others of their cell.
    detached
        Whether the loss trains its own heads only and leaves the encoder alone; such losses are
        reported, but are not part of the loss that early stopping watches.
    """

    name: ClassVar[str]
    predicted_share: float = 0.0
    hidden_last: bool = False
    reads: ClassVar[Literal["clean", "corrupted", "ahead", "back"]] = "corrupted"
    detached: bool = False

    def prepare(self, batch: CellBatch, random: CellRandom) -> torch.Tensor | None:
        """Tokens to hide from the encoder, bool ``(t,)``; at most one objective of a run hides any."""
        return None

    @abstractmethod
    def loss(self, batch: CellBatch, encoded: Encoded) -> dict[str, torch.Tensor]:
        """Named losses, scalars, already weighted; their sum is minimised."""
