"""Genes that belong together shape the states of genes in a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from scgenemamba._logging import logger
from scgenemamba.tokens import Vocabulary, pairs_of_coexpression, pairs_of_sets, read_gene_sets, tokens_of_sets
from scgenemamba.train import PathwayContrast

from ._variable_genes import rank_variable_genes

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import scipy.sparse as sp
    from torch import nn

    from scgenemamba.tokens import GeneSets

_KEY = "pathway"
#: Instead of gene sets: genes whose expression rises and falls together.
COEXPRESSION = "coexpression"
_MAX_COEXPRESSED_GENES = 2_000


@contextmanager
def pathway_contrast(
    objectives: nn.ModuleDict,
    vocabulary: Vocabulary,
    n_tokens: int,
    gene_sets: str | Path | GeneSets | Iterable[str | Path] | None,
    weight: float,
    sample: Callable[[], sp.csr_matrix],
) -> Iterator[None]:
    """Context in which genes that belong together are pulled together; it learns nothing that is to be kept.

    ``sample`` gives cells of the training, linear values in token space, to find co-expressed genes in.

    Raises
    ------
    ValueError
        If the weight is negative, or no two genes of the vocabulary belong together.
    """
    if gene_sets is None:
        yield
        return
    if weight < 0:
        msg = f"`pathway_weight` must not be negative, got {weight}."
        raise ValueError(msg)
    if isinstance(gene_sets, str) and gene_sets == COEXPRESSION:
        pairs = _coexpressed(sample())
    else:
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


def _coexpressed(counts: sp.csr_matrix) -> npt.NDArray[np.int64]:
    import scanpy as sc
    from anndata import AnnData

    tokens = np.sort(rank_variable_genes(counts[:, Vocabulary.FIRST_GENE :], None)[:_MAX_COEXPRESSED_GENES])
    cells = AnnData(counts.astype(np.float32))
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    pairs = pairs_of_coexpression(cells.X[:, tokens], tokens)
    if not len(pairs):
        msg = f"No two of {len(tokens):,} variable genes are co-expressed in {counts.shape[0]:,} cells: give gene sets instead."
        raise ValueError(msg)
    logger.info(
        f"{len(pairs):,} pairs of {len(tokens):,} variable genes are co-expressed in {counts.shape[0]:,} cells."
    )
    return pairs
