"""Novelty of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._style import MISSING_COLOR, as_text, colors_of, hide_frame, legend_above, new_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_N_BINS = 50
# The axis ends where this share of the scores lies, or at so many thresholds: far outliers would squeeze the rest
_TAIL = 0.995
_MOST_THRESHOLDS = 5


def novelty(
    score: Sequence[float],
    is_new: Sequence[bool] | None = None,
    *,
    labels: Sequence[Any] | None = None,
    threshold: float = 1.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the distribution of a novelty score.

    Parameters
    ----------
    score
        Novelty of each cell, shape ``(n_cells,)``.
    is_new
        Whether a cell's type is new to the model, for a distribution each and the area under their ROC curve.
    labels
        True label of each cell, for a box each instead of histograms, the most novel label on top. Boxes
        are quartiles, whiskers reach from 5 to 95 %.
    threshold
        Score above which a cell is called unknown.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    ValueError
        If the numbers of cells differ, or a score is not finite.
    """
    values = np.asarray(score, dtype=np.float64)
    if not np.isfinite(values).all():
        msg = f"{(~np.isfinite(values)).sum()} novelty scores are not finite."
        raise ValueError(msg)
    new = None if is_new is None else np.asarray(is_new, dtype=bool)
    if new is not None and len(new) != len(values):
        msg = f"is_new must have a value for each of {len(values)} cells, got {len(new)}."
        raise ValueError(msg)
    low, high = _limits(values, threshold)
    if labels is None:
        ax = new_axes(4.6, 3.6) if ax is None else ax
        _draw_histograms(ax, values, new, threshold, np.linspace(low, high, _N_BINS + 1))
    else:
        ax = _draw_boxes(ax, values, new, as_text(labels, "labels", len(values)), threshold)
    beyond = " (last bar: and above)" if labels is None and values.max() > high else ""
    ax.set(xlim=(low, high), xlabel=f"novelty score{beyond}")
    hide_frame(ax)
    return ax


def _limits(values: npt.NDArray[np.float64], threshold: float) -> tuple[float, float]:
    high = float(np.quantile(values, _TAIL))
    if threshold > 0:
        high = max(min(high, _MOST_THRESHOLDS * threshold), 1.2 * threshold)
    return min(0.0, float(values.min())), high


def _draw_histograms(
    ax: Axes,
    values: npt.NDArray[np.float64],
    new: npt.NDArray[np.bool_] | None,
    threshold: float,
    bins: npt.NDArray[np.float64],
) -> None:
    groups = {"cells": values} if new is None else {"known types": values[~new], "new types": values[new]}
    for (name, scores), color in zip(groups.items(), colors_of(range(2)).values(), strict=False):
        label = f"{name} (n={len(scores)}): {(scores > threshold).mean() if len(scores) else 0:.1%} above"
        # what lies beyond the axis is counted in the last bin
        inside, weights = np.clip(scores, None, bins[-1]), np.full(len(scores), 1 / max(len(scores), 1))
        ax.hist(inside, bins.tolist(), weights=weights, color=color, alpha=0.55, label=label)
        ax.hist(inside, bins.tolist(), weights=weights, color=color, histtype="step")
    _draw_threshold(ax, threshold)
    ax.set_ylabel("share of cells")
    comparable = new is not None and 0 < new.sum() < len(new)
    legend_above(ax, title=f"area under the ROC curve {_auroc(values, new):.3f}" if comparable else None)  # type: ignore[arg-type]


def _draw_boxes(
    ax: Axes | None,
    values: npt.NDArray[np.float64],
    new: npt.NDArray[np.bool_] | None,
    labels: npt.NDArray[np.object_],
    threshold: float,
) -> Axes:
    from matplotlib.patches import Patch

    known, unseen = colors_of(range(2)).values()
    groups = pd.Series(values).groupby(labels)
    order = groups.median().sort_values(kind="stable").index
    ax = new_axes(5, 0.3 * len(order) + 1.4) if ax is None else ax
    scores = [groups.get_group(name).to_numpy() for name in order]
    boxes = ax.boxplot(
        scores, orientation="horizontal", widths=0.6, patch_artist=True, showfliers=False, whis=(5, 95),
        medianprops={"color": "black"}, manage_ticks=False, positions=range(len(order)),
    )  # fmt: skip
    shares = None if new is None else pd.Series(new).groupby(labels).mean()
    for row, (box, name, s) in enumerate(zip(boxes["boxes"], order, scores, strict=True)):
        shade = MISSING_COLOR if shares is None else (unseen if shares[name] > 0.5 else known)
        box.set(facecolor=shade, alpha=0.8)
        place: Any = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8}
        ax.annotate(f"{(s > threshold).mean():.0%}", (1.04, row), **place)
    ax.annotate("above", (1.04, 1), xycoords="axes fraction", va="bottom", fontsize=8)
    ax.set_yticks(range(len(order)), [f"{name} (n={len(s)})" for name, s in zip(order, scores, strict=True)])
    ax.set_ylim(-0.6, len(order) - 0.4)
    _draw_threshold(ax, threshold)
    kinds = [] if new is None else [(known, "known types"), (unseen, "new types")]
    patches = [Patch(facecolor=color, alpha=0.8, label=kind) for color, kind in kinds]
    legend_above(ax, [*patches, *ax.get_legend_handles_labels()[0]])
    return ax


def _draw_threshold(ax: Axes, threshold: float) -> None:
    ax.axvline(threshold, color="0.2", linestyle="--", linewidth=1, label=f"threshold {threshold:g}", zorder=4)


def _auroc(values: npt.NDArray[np.float64], new: npt.NDArray[np.bool_]) -> float:
    """Probability that a new cell scores higher than a known one; equal scores count half."""
    ranks = pd.Series(values).rank().to_numpy()
    n_new, n_known = new.sum(), (~new).sum()
    return float((ranks[new].sum() - n_new * (n_new + 1) / 2) / (n_new * n_known))
