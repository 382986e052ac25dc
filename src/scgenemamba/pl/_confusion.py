"""Confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_MOST_ANNOTATED = 20
_MOST_LARGE = 15


def confusion_matrix(true: Sequence[Any], predicted: Sequence[Any], *, ax: Axes | None = None) -> Axes:
    """Draw which label each true label is predicted as, as a share of the true label's cells.

    Shares are written into the fields of up to 20 labels.

    Parameters
    ----------
    true, predicted
        Label of each cell, shape ``(n_cells,)``.
    ax
        Axes to draw into, ``None`` for new ones.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    rows, columns = np.asarray(true).astype(str), np.asarray(predicted).astype(str)
    labels = np.union1d(rows, columns)
    table = pd.crosstab(pd.Categorical(rows, labels), pd.Categorical(columns, labels), dropna=False)
    sizes = table.sum(axis=1)
    shares = table.div(sizes.clip(lower=1), axis=0)
    few = len(labels) <= _MOST_ANNOTATED
    side = (0.5 if few else 0.22) * len(labels)
    ax = plt.subplots(figsize=(side + 2, side + 1.5), layout="constrained")[1] if ax is None else ax
    sns.heatmap(
        shares,
        ax=ax,
        cmap="Blues",
        vmin=0,
        vmax=1,
        annot=shares.map(_share) if few else None,
        fmt="",
        annot_kws={"size": 7},
        linewidths=0.5 if few else 0.1,
        linecolor="0.92",
        cbar_kws={"label": "share of the true label", "fraction": 0.05},
        xticklabels=labels,
        yticklabels=[f"{label} (n={sizes[label]})" for label in labels],
    )
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(labelsize=None if len(labels) <= _MOST_LARGE else 7)
    ax.tick_params(axis="x", rotation=60)
    for label in ax.get_xticklabels():
        label.set(horizontalalignment="right", rotation_mode="anchor")
    return ax


def _share(share: float) -> str:
    """Share as ``.25``; nothing where it would read ``.00``."""
    text = f"{share:.2f}"
    return {"0.00": "", "1.00": "1"}.get(text, text.lstrip("0"))
