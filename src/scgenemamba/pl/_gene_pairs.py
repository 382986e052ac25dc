"""Similarity of genes that belong together, and of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._style import colors_of, hide_frame, legend_above, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GENES = ("gene_1", "gene_2")
_FEWEST = 2


def gene_pair_similarity(pairs: pd.DataFrame, similarity: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the density of similarities of known pairs of genes and of others, as in the GeneMamba paper.

    Parameters
    ----------
    pairs
        Table with ``gene_1``, ``gene_2`` and ``label``, 1 for known pairs and 0 for others, see
        :func:`scgenemamba.metrics.matched_gene_pairs`.
    similarity
        Square table of genes by genes, see :func:`scgenemamba.tl.gene_similarity`. Pairs with other genes are left out.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If the table knows fewer than two pairs of either label.
    """
    import seaborn as sns

    missing = [column for column in (*_GENES, "label") if column not in pairs]
    if missing:
        msg = f"`pairs` has no column {missing[0]!r}; it has {[*pairs.columns]}."
        raise KeyError(msg)
    places = [similarity.index.astype(str).get_indexer(pd.Index(pairs[name].astype(str))) for name in _GENES]
    known = (places[0] >= 0) & (places[1] >= 0)
    # rows and columns may be in different orders
    square = similarity.loc[:, similarity.index].to_numpy(np.float64)
    values, labels = square[places[0][known], places[1][known]], pairs["label"].to_numpy()[known]
    kinds = {"known pairs": values[labels == 1], "other pairs": values[labels == 0]}
    for name, found in kinds.items():
        if len(found) < _FEWEST:
            msg = f"The similarities are of genes of {len(found)} {name} out of {len(pairs):,} pairs, {_FEWEST} are needed. Are genes named by the same kind of identifier?"
            raise ValueError(msg)
    ax = new_axes(4.2, 3.2) if ax is None else ax
    for (name, found), color in zip(kinds.items(), colors_of(range(2)).values(), strict=True):
        sns.kdeplot(x=found, ax=ax, color=color, fill=True, alpha=0.3, label=f"{name} (n={len(found):,})")
        ax.axvline(np.median(found), color=color, linestyle="--", linewidth=1)
    ax.set(xlabel="similarity (dashed: median)", ylabel="density of pairs")
    legend_above(ax)
    hide_frame(ax)
    return ax
