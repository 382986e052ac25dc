"""Pairs of genes that belong together: of one set, or expressed together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

if TYPE_CHECKING:
    from ._vocabulary import Vocabulary

Pairs = npt.NDArray[np.int64]


def pairs_of_sets(token_sets: Iterable[npt.NDArray[np.integer]], *, max_set_size: int = 200) -> Pairs:
    """All pairs of genes that share a set.

    Parameters
    ----------
    token_sets
        Tokens of each set.
    max_set_size
        Larger sets, such as all of signalling, say little about two of their genes, and have most pairs: they are left out.

    Returns
    -------
    int64 ``(p, 2)``, the smaller token first, each pair once, sorted.
    """
    parts = [np.empty((0, 2), dtype=np.int64)]
    for tokens in token_sets:
        members = np.unique(np.asarray(tokens, dtype=np.int64))
        if len(members) <= max_set_size:
            first, second = np.triu_indices(len(members), k=1)
            parts.append(np.stack([members[first], members[second]], axis=1))
    return np.unique(np.concatenate(parts), axis=0)


def pairs_of_coexpression(
    values: sp.spmatrix, tokens: npt.NDArray[np.integer], *, n_neighbours: int = 10, min_correlation: float = 0.2
) -> Pairs:
    """Pairs of genes whose expression rises and falls together: mutual nearest neighbours by Pearson correlation.

    Parameters
    ----------
    values
        Log-normalised expression, ``(n, g)``; of thousands of genes at most, since all correlations are held.
    tokens
        Token of each gene, ``(g,)``.
    n_neighbours
        How many genes are a gene's neighbours.
    min_correlation
        Least correlation of a pair.

    Returns
    -------
    int64 ``(p, 2)``, as :func:`pairs_of_sets`.
    """
    x = sp.csc_matrix(values, dtype=np.float64)
    mean = np.asarray(x.mean(axis=0)).ravel()
    covariance = (x.T @ x).toarray() / x.shape[0] - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0))
    # constant genes correlate with none
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-8)
    correlation = covariance * scale * scale[:, None]
    np.fill_diagonal(correlation, -np.inf)
    n_near = min(n_neighbours, len(tokens) - 1)
    near = np.zeros(correlation.shape, dtype=bool)
    if n_near > 0:
        np.put_along_axis(near, np.argpartition(-correlation, n_near - 1, axis=1)[:, :n_near], True, axis=1)
    first, second = np.nonzero(np.triu(near & near.T & (correlation >= min_correlation), k=1))
    pairs = np.sort(np.stack([np.asarray(tokens)[first], np.asarray(tokens)[second]], axis=1).astype(np.int64), axis=1)
    return np.unique(pairs, axis=0)


def tokens_of_sets(
    gene_sets: Mapping[str, Iterable[str]], vocabulary: Vocabulary, *, min_genes: int = 2
) -> dict[str, npt.NDArray[np.int64]]:
    """Tokens of the genes of each set, matched by name as the genes of data are.

    Parameters
    ----------
    gene_sets
        Names of the genes of each set, in any kind of identifier.
    vocabulary
        Vocabulary of the model.
    min_genes
        Sets of which the vocabulary has fewer genes are left out.

    Raises
    ------
    ValueError
        If the vocabulary has no set's genes.
    """
    from ._gene_map import map_genes

    names = sorted({str(gene) for genes in gene_sets.values() for gene in genes})
    token_of = dict(zip(names, map_genes(names, vocabulary).token_ids.tolist(), strict=True)) if names else {}
    found = {
        name: np.unique([token_of[str(gene)] for gene in genes if token_of[str(gene)] >= 0]).astype(np.int64)
        for name, genes in gene_sets.items()
    }
    kept = {name: tokens for name, tokens in found.items() if len(tokens) >= min_genes}
    if not kept:
        msg = (
            f"None of the {len(gene_sets)} gene sets has {min_genes} genes of the vocabulary ({', '.join(names[:3])}, ...): "
            "is it of the same species?"
        )
        raise ValueError(msg)
    return kept
