"""Reliability of probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._coverage import binomial_interval
from ._style import as_text, colors_of, hide_frame, legend_above, new_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_BAND = 0.16  # height of the histogram below the diagram
_FEW = 10  # cells of a bin that says little
_MARKERS = "osD^vPX*"


def calibration_curve(
    true: Sequence[Any],
    probabilities: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    n_bins: int = 15,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often the most probable label is right, against its probability.

    The curve of a calibrated method follows the diagonal. The legend has the expected calibration error (ECE): the distance
    from it, mean over cells, in bins of equal width. Bars are 95 % intervals, hollow points have fewer than 10 cells; below is where the cells are.

    Parameters
    ----------
    true
        True label of each cell, shape ``(n_cells,)``. Cells without one are left out; a label that a method does not have
        counts as an error of it.
    probabilities
        Probabilities, cells by labels, or those of several methods by name.
    n_bins
        Number of bins.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    ValueError
        If the numbers of cells differ, or no cell has a label.
    """
    tables = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    ax = new_axes(4, 4.2) if ax is None else ax
    ax.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, zorder=0)
    ax.axhline(0, color="0.15", linewidth=0.8)
    colors = colors_of(list(tables))
    for i, (name, table) in enumerate(tables.items()):
        bins = _bins(as_text(true, "true", len(table)), table, n_bins)
        label = f"{name}: ECE {_error(bins):.3f}".removeprefix(": ")
        _draw_points(ax, bins, colors[name], _MARKERS[i % len(_MARKERS)], label)
        heights = bins["n"] / bins["n"].max() * (_BAND - 0.03)
        starts = (bins.index.to_numpy() + 0.1 + 0.8 * i / len(tables)) / n_bins
        ax.bar(starts, heights, 0.8 / n_bins / len(tables), -_BAND, align="edge", color=colors[name], alpha=0.8)
    ax.annotate("cells", (0.01, -0.02), va="top", fontsize=7, color="0.4")
    ax.set(
        xlabel="probability of the predicted label",
        ylabel="share that is right",
        xlim=(0, 1.01),
        ylim=(-_BAND, 1.02),
        yticks=np.linspace(0, 1, 6),
    )
    legend_above(ax)
    hide_frame(ax)
    return ax


def _draw_points(ax: Axes, bins: pd.DataFrame, color: Any, marker: str, label: str) -> None:
    low, high = binomial_interval(bins["hits"].to_numpy(), bins["n"].to_numpy())
    ax.vlines(bins["confidence"], low, high, color=color, alpha=0.5, linewidth=1)
    many, few = bins[bins["n"] >= _FEW], bins[bins["n"] < _FEW]
    ax.plot(many["confidence"], many["accuracy"], marker=marker, markersize=4, color=color, label=label)
    ax.plot(few["confidence"], few["accuracy"], marker, markersize=4, color=color, markerfacecolor="white")


def _bins(labels: npt.NDArray[np.object_], table: pd.DataFrame, n_bins: int) -> pd.DataFrame:
    """Cells, hits, mean probability and share of hits of each bin that has cells, by its number from 0."""
    given = np.array([label is not None for label in labels])
    if not given.any():
        msg = "No cell has a true label."
        raise ValueError(msg)
    values = table.to_numpy(np.float64)[given]
    predicted = np.array([str(name) for name in table.columns], dtype=object)[values.argmax(1)]
    confidence = values.max(1)
    # upper edges belong to their bin, so that a probability of 1 has one
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    cells = pd.DataFrame({"confidence": confidence, "hit": predicted == labels[given]})
    return cells.groupby(bins).agg(
        n=("hit", "size"), hits=("hit", "sum"), confidence=("confidence", "mean"), accuracy=("hit", "mean")
    )


def _error(bins: pd.DataFrame) -> float:
    return float(np.average((bins["accuracy"] - bins["confidence"]).abs(), weights=bins["n"]))
