"""Gene sets that shape the states of genes in a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scgenemamba._logging import logger
from scgenemamba.tokens import pairs_of_sets, read_gene_sets, tokens_of_sets
from scgenemamba.train import PathwayContrast

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from scgenemamba.tokens import GeneSets, Vocabulary

_KEY = "pathway"


@contextmanager
def pathway_contrast(
    objectives: nn.ModuleDict,
    vocabulary: Vocabulary,
    n_tokens: int,
    gene_sets: str | Path | GeneSets | Iterable[str | Path] | None,
    weight: float,
) -> Iterator[None]:
    """Context in which genes of one set are pulled together; it learns nothing that is to be kept.

    Raises
    ------
    ValueError
        If the weight is negative, or the vocabulary has no two genes of any set.
    """
    if gene_sets is None:
        yield
        return
    if weight < 0:
        msg = f"`pathway_weight` must not be negative, got {weight}."
        raise ValueError(msg)
    sets = tokens_of_sets(read_gene_sets(gene_sets), vocabulary)
    pairs = pairs_of_sets(sets.values())
    if not len(pairs):
        msg = f"All {len(sets)} gene sets are too large to say that two of their genes belong together."
        raise ValueError(msg)
    logger.info(f"{len(pairs):,} pairs of genes share one of {len(sets):,} gene sets.")
    objectives[_KEY] = PathwayContrast(pairs, n_tokens, weight=weight)
    try:
        yield
    finally:
        del objectives[_KEY]
