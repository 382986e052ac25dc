"""Whether embeddings of genes make the same genes neighbours, by the paper's measure."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

_FEWEST_GENES = 3


def adjacency_jaccard(embeddings: Mapping[str, pd.DataFrame], genes: Iterable[str] | None = None) -> pd.DataFrame:
    """Jaccard index of the graphs that embeddings make of the genes that all of them know.

    As in the GeneMamba paper, two genes are joined if their similarity, one minus their Euclidean distance, is above its mean over all pairs.
    About half of all pairs are, so graphs that have nothing to do with each other share a third of their edges: read the index beside
    ``expected``. Genes of short embeddings are close to all others in any such graph, which adds to it; compare with an embedding of random weights.

    Parameters
    ----------
    embeddings
        Tables of genes by dimensions, by name; the number of dimensions may differ.
    genes
        Genes to compare, ``None`` for all that the embeddings share. Those that one of them lacks are left out.

    Returns
    -------
    Table by the names of both embeddings, ``first`` and ``second``, with ``n_genes``, ``jaccard``, the index that is ``expected`` of random graphs with as many
    edges, and ``density_first`` and ``density_second``, the shares of pairs that are joined.

    Raises
    ------
    ValueError
        If there are fewer than two embeddings or three shared genes, or a gene is there twice or its embedding not finite.
    """
    if len(embeddings) < 2:
        msg = f"At least two embeddings are needed to compare, got {[*embeddings]}."
        raise ValueError(msg)
    for name, table in embeddings.items():
        if table.index.has_duplicates:
            msg = f"Embedding {name!r} has gene {table.index[table.index.duplicated()][0]!r} more than once."
            raise ValueError(msg)
    shared = set.intersection(*(set(table.index) for table in embeddings.values()))
    # in alphabetical order: the result does not depend on that of the tables
    chosen = sorted(shared if genes is None else shared.intersection(genes))
    if len(chosen) < _FEWEST_GENES:
        sizes = ", ".join(f"{name!r} {len(table):,}" for name, table in embeddings.items())
        msg = f"The embeddings share {len(chosen)} of the genes asked for, {_FEWEST_GENES} are needed; they know {sizes}. Are they named by the same kind of identifier?"
        raise ValueError(msg)
    joined = {name: _joined(name, table.loc[chosen]) for name, table in embeddings.items()}
    rows = {pair: _compare(joined[pair[0]], joined[pair[1]]) for pair in combinations(joined, 2)}
    found = pd.DataFrame.from_dict(rows, orient="index")
    found.index = pd.MultiIndex.from_tuples([*rows], names=["first", "second"])
    found.insert(0, "n_genes", len(chosen))
    return found


def _joined(name: str, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether each pair of genes is joined, ``(n * (n - 1) / 2,)``."""
    from scipy.spatial.distance import pdist

    values = table.to_numpy(np.float64)
    if not np.isfinite(values).all():
        msg = f"Embedding {name!r} of gene {table.index[~np.isfinite(values).all(axis=1)][0]!r} is not finite."
        raise ValueError(msg)
    distance = pdist(values)
    return distance < distance.mean()


def _compare(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> dict[str, float]:
    p, q = float(first.mean()), float(second.mean())
    either = float((first | second).sum())
    return {
        "jaccard": float((first & second).sum()) / either if either else np.nan,
        "expected": p * q / (p + q - p * q) if p + q else np.nan,
        "density_first": p,
        "density_second": q,
    }
