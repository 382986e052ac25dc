"""Coverage of prediction sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._style import as_text, colors_of, hide_frame, legend_above, new_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes


def coverage_by_class(true: Sequence[Any], sets: pd.DataFrame, *, nominal: float = 0.9, ax: Axes | None = None) -> Axes:
    """Draw how often prediction sets hold the true label, of each label and of all cells, with 95 % intervals.

    Cells whose label is missing, or is no column of the sets, are left out, which is said below the figure.

    Parameters
    ----------
    true
        True label of each cell, shape ``(n_cells,)``.
    sets
        Whether a label is in a cell's set, bool, cells by labels.
    nominal
        Coverage that was asked for.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    ValueError
        If the numbers of cells differ, or no cell has a label that the sets know.
    """
    table = _coverage(as_text(true, "true", len(sets)), sets)
    rows = np.arange(len(table))
    ax = new_axes(5.4, 0.28 * len(table) + 1.3) if ax is None else ax
    low, high = binomial_interval(table["covered"].to_numpy(), table["n"].to_numpy())
    share = (table["covered"] / table["n"]).to_numpy()
    is_all = np.asarray(table.index == "all cells")
    color = list(colors_of(["label"]).values())[0]
    ax.axvline(nominal, color="0.3", linestyle="--", linewidth=1, zorder=0, label=f"asked for: {nominal:.0%}")
    for chosen, shade, marker in ((~is_all, color, "o"), (is_all, "black", "D")):
        ax.hlines(rows[chosen], low[chosen], high[chosen], color=shade, linewidth=1.5)
        ax.scatter(share[chosen], rows[chosen], color=shade, marker=marker, s=26, zorder=3)
    for row, size in zip(rows, table["size"], strict=True):
        ax.annotate(f"{size:.2f}", (1.04, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    ax.annotate("labels\nper set", (1.04, 1), xycoords="axes fraction", va="bottom", fontsize=8)
    ax.set(
        xlabel="share of cells whose set holds the true label" + _left_out(true, sets),
        xlim=(max(0.0, min(low.min(), nominal) - 0.03), 1.01),
        ylim=(len(table) - 0.5, -0.6),
    )
    ax.set_yticks(rows, [f"{name} (n={n})" for name, n in table["n"].items()])
    legend_above(ax)
    hide_frame(ax)
    return ax


def _coverage(labels: npt.NDArray[np.object_], sets: pd.DataFrame) -> pd.DataFrame:
    """Cells, covered cells and mean set size of all cells and of each label, the commonest first."""
    names = [str(name) for name in sets.columns]
    codes = pd.Index(names).get_indexer(pd.Index(labels))
    members = sets.to_numpy(bool)
    known = np.flatnonzero(codes >= 0)
    if not len(known):
        msg = f"No true label is a column of sets, which has {names}."
        raise ValueError(msg)
    cells = pd.DataFrame({"covered": members[known, codes[known]], "size": members[known].sum(1)})
    groups = cells.groupby(labels[known])
    each = groups.agg(n=("covered", "size"), covered=("covered", "sum"), size=("size", "mean"))
    total = pd.DataFrame(
        {"n": len(cells), "covered": cells["covered"].sum(), "size": cells["size"].mean()}, index=["all cells"]
    )
    return pd.concat([total, each.sort_values("n", ascending=False, kind="stable")])


def _left_out(true: Sequence[Any], sets: pd.DataFrame) -> str:
    labels = as_text(true, "true")
    other = labels[~np.isin(labels.astype(str), [str(name) for name in sets.columns])]
    if not len(other):
        return ""
    named = sorted({label for label in other if label is not None})
    more = f" and {len(named) - 2} more" if len(named) > 2 else ""
    return f"\n({len(other)} cells left out: {', '.join(named[:2]) or 'without a label'}{more})"


def binomial_interval(
    hits: npt.NDArray[Any], n: npt.NDArray[Any], z: float = 1.96
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Wilson's interval of a share, which holds for few cells and for shares near 0 and 1.

    Parameters
    ----------
    hits, n
        Number of hits and of cells, shape ``(k,)``; ``n`` above zero.
    z
        Quantile of the normal distribution.

    Returns
    -------
    Lower and upper bounds, ``(k,)`` each.
    """
    share, n = hits / n, n.astype(float)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)
