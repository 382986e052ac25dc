"""What a checkpoint holds, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from scgenemamba.nn import GeneMambaConfig
    from scgenemamba.tokens import Vocabulary

RankMode = Literal["median", "raw", "official_downstream"]
RANK_MODES: tuple[str, ...] = ("median", "raw", "official_downstream")


@dataclass(frozen=True)
class Preprocessing:
    """How cells become tokens.

    Attributes
    ----------
    rank_mode
        ``"median"``, ``"raw"`` or ``"official_downstream"``.
    factors
        Rank factor of each gene of the vocabulary, float64 ``(n_genes,)``, NaN where there is none; ``None`` if they are
        yet to be estimated.
    factors_source
        Where the factors come from, in words.
    """

    rank_mode: RankMode = "median"
    factors: npt.NDArray[np.float64] | None = None
    factors_source: str = ""


@dataclass
class LoadReport:
    """What was found in a checkpoint, and what was not.

    Attributes
    ----------
    format
        ``"published GeneMamba"`` or ``"scgenemamba"``.
    files, n_bytes
        Weight files, and their size.
    prefix
        What all keys began with, beyond the format's own names.
    fusion_reason
        How it is known how the directions are joined.
    unused
        Keys that nothing reads.
    disagreements
        Where config.json says otherwise than the tensors.
    """

    format: str
    files: list[str]
    n_bytes: int
    prefix: str = ""
    fusion_reason: str = ""
    unused: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)


@dataclass
class Checkpoint:
    """A checkpoint that was read and checked.

    Attributes
    ----------
    config
        Architecture, from the tensors.
    vocabulary
        Genes in token order.
    preprocessing
        How cells become tokens.
    encoder
        Parameters of :class:`~scgenemamba.nn.BiMambaEncoder`.
    head
        ``weight (n_tokens, d)`` and ``bias (n_tokens,)`` over the vocabulary; empty if there is none.
    classifier
        Parameters of :class:`~scgenemamba.nn.PublishedClassifier`; empty if there is none.
    classes
        Names of its classes.
    saved
        Of our own format, all that a model is made from; empty otherwise.
    report
        What was found.
    """

    config: GeneMambaConfig
    vocabulary: Vocabulary
    preprocessing: Preprocessing
    encoder: Mapping[str, torch.Tensor]
    report: LoadReport
    head: Mapping[str, torch.Tensor] = field(default_factory=dict)
    classifier: Mapping[str, torch.Tensor] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    saved: dict[str, Any] = field(default_factory=dict)

    @property
    def has_cls(self) -> bool:
        """Whether the table of embeddings has a row for ``[CLS]``."""
        return self.config.n_tokens > self.vocabulary.n_tokens

    @property
    def mixers_trained(self) -> bool:
        """Whether the mixers ever received a gradient; if not, all ``D`` and norm weights are exactly one."""
        mixers = [name for name in self.encoder if name.endswith((".mixer.D", ".mixer.norm.weight"))]
        return any(bool((self.encoder[name] != 1).any()) for name in mixers)
