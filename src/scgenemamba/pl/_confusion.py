"""Confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


def confusion_matrix(true: Sequence[Any], predicted: Sequence[Any], *, ax: Axes | None = None) -> Axes:
    """Draw which label each true label is predicted as, as a share of the true label's cells.

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
    ax = plt.subplots(figsize=(0.5 * len(labels) + 2, 0.5 * len(labels) + 1.5))[1] if ax is None else ax
    sns.heatmap(
        shares,
        ax=ax,
        cmap="Blues",
        vmin=0,
        vmax=1,
        annot=shares.map(lambda share: f"{share:.2f}".lstrip("0") if 0 < share < 1 else ("1" if share else "")),
        fmt="",
        annot_kws={"size": 7},
        linewidths=0.5,
        linecolor="0.92",
        cbar_kws={"label": "share of the true label"},
        xticklabels=labels,
        yticklabels=[f"{label} (n={sizes[label]})" for label in labels],
    )
    ax.set(xlabel="predicted", ylabel="true")
    ax.tick_params(axis="x", rotation=60)
    for label in ax.get_xticklabels():
        label.set_horizontalalignment("right")
    return ax
