"""F1 of each label, method against method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._style import as_text, colors_of, hide_frame, legend_above, new_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

_MARKERS = "oDs^vPX*"


def per_class_f1(true: Sequence[Any], predictions: Mapping[str, Sequence[Any]], *, ax: Axes | None = None) -> Axes:
    """Draw the F1 score of each true label by method, the commonest label first; the legend has their mean.

    Parameters
    ----------
    true
        True label of each cell, shape ``(n_cells,)``. Cells without one are left out.
    predictions
        Predicted label of each cell, by name of the method; the first one is drawn on top.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    ValueError
        If the numbers of cells differ, or there are no methods or no labels.
    """
    labels = as_text(true, "true")
    scores = {name: _f1(labels, as_text(said, name, len(labels))) for name, said in predictions.items()}
    if not scores or next(iter(scores.values())).empty:
        msg = "There is nothing to draw: `predictions` has no method, or no cell has a true label."
        raise ValueError(msg)
    table = pd.DataFrame(scores)
    sizes = pd.Series(labels).value_counts()
    table = table.loc[sizes.index]
    ax = new_axes(5, 0.3 * len(table) + 1.1 + 0.16 * len(scores)) if ax is None else ax
    rows = np.arange(len(table))
    ax.hlines(rows, table.min(axis=1), table.max(axis=1), color="0.75", linewidth=2.5, zorder=1)
    colors = colors_of(list(table))
    for i, name in reversed(list(enumerate(table))):
        marker = _MARKERS[i % len(_MARKERS)]
        label = f"{name}: mean F1 {table[name].mean():.3f}"
        ax.scatter(table[name], rows, s=40, marker=marker, color=colors[name], label=label, zorder=3, clip_on=False)
    ax.set_yticks(rows, [f"{label} (n={n})" for label, n in sizes.items()])
    lowest = np.floor(10 * table.to_numpy().min()) / 10
    ax.set(xlabel="F1", xlim=(lowest - 0.02, 1.01), ylim=(len(table) - 0.5, -0.5))
    ax.grid(axis="x", color="0.92")
    ax.set_axisbelow(True)
    legend_above(ax, ax.get_legend_handles_labels()[0][::-1])
    hide_frame(ax)
    return ax


def _f1(labels: npt.NDArray[np.object_], said: npt.NDArray[np.object_]) -> pd.Series:
    """F1 of each true label; what is predicted for cells without a label does not count."""
    given = np.array([label is not None for label in labels], dtype=bool)
    true, predicted = pd.Series(labels[given]), pd.Series(said[given])
    hits = true[true.to_numpy() == predicted.to_numpy()].value_counts()
    sizes, calls = true.value_counts(), predicted.value_counts()
    return 2 * hits.reindex(sizes.index, fill_value=0) / (sizes + calls.reindex(sizes.index, fill_value=0))
