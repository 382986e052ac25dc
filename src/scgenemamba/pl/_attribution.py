"""Attributed genes, beside genes that are expressed differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._style import MISSING_COLOR, hide_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

_LARGEST_DOT = 110.0
_SHARES = (0.25, 0.5, 1.0)
_CELL = 0.24


def attribution_dotplot(
    attributed: pd.DataFrame,
    ranked: pd.DataFrame | None = None,
    *,
    groups: Sequence[str] | None = None,
    n_genes: int = 5,
    axes: Axes | Sequence[Axes] | None = None,
) -> npt.NDArray[np.object_]:
    """Draw the genes with the highest attributions of each group; the dot is the share of its cells that show them.

    Parameters
    ----------
    attributed
        Table from :func:`~scgenemamba.tl.attributed_genes`, with all genes.
    ranked
        Table from :func:`scanpy.get.rank_genes_groups_df` with ``group=None``: a second panel has its scores of the same genes, grey where the
        table lacks the gene. Its groups have the names of the first table's; others are left out.
    groups
        Groups to draw, in this order; ``None`` for all.
    n_genes
        Genes of each group. A gene of several groups is drawn with the first.
    axes
        Axes to draw into, two with ``ranked``; ``None`` for new ones.

    Returns
    -------
    The axes, one or two, shape ``(n_panels,)``.

    Raises
    ------
    KeyError
        If a table lacks a column.
    ValueError
        If there is no such group, the tables have no group in common, or the number of axes differs from that of the panels.
    """
    _need(attributed, ("group", "gene", "attribution", "share"), "attributed", "attributed_genes returns")
    table = attributed.assign(group=attributed["group"].astype(str), gene=attributed["gene"].astype(str))
    drawn = _groups(attributed["group"], groups)
    if n_genes < 1:
        msg = f"`n_genes` must be at least 1, got {n_genes}."
        raise ValueError(msg)
    top = [table[table["group"] == group].nlargest(n_genes, "attribution")["gene"] for group in drawn]
    genes = list(pd.concat(top).unique())
    values = table.pivot(index="group", columns="gene", values="attribution").reindex(index=drawn, columns=genes)
    share = table.pivot(index="group", columns="gene", values="share").reindex(index=drawn, columns=genes)
    panels = [("attribution", values.fillna(0.0))]
    if ranked is not None:
        panels.append(("score of rank_genes_groups", _scores(ranked, drawn, genes)))
    places = _axes(axes, len(panels), len(drawn), len(genes))
    for ax, (name, colors) in zip(places, panels, strict=True):
        _draw(ax, colors, share.fillna(0.0), name)
    if len(places) > 1:
        places[1].tick_params(labelleft=False)
    _legend(places[-1])
    return places


def _need(table: pd.DataFrame, columns: Sequence[str], name: str, origin: str) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        msg = f"`{name}` has no column {', '.join(map(repr, missing))}: give the table that {origin}."
        raise KeyError(msg)


def _groups(column: pd.Series, groups: Sequence[str] | None) -> list[str]:
    known = list(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else list(column.unique())
    known = [str(group) for group in known if (column.astype(str) == str(group)).any()]
    unknown = [group for group in groups or () if str(group) not in known]
    if unknown or not known or (groups is not None and not len(groups)):
        msg = f"`groups`: there is no group {', '.join(map(repr, unknown)) or 'to draw'}; the table has {known}."
        raise ValueError(msg)
    return known if groups is None else [str(group) for group in groups]


def _scores(ranked: pd.DataFrame, groups: list[str], genes: list[str]) -> pd.DataFrame:
    _need(ranked, ("group", "names", "scores"), "ranked", "sc.get.rank_genes_groups_df(adata, group=None) returns")
    table = ranked.assign(group=ranked["group"].astype(str), names=ranked["names"].astype(str))
    if not table["group"].isin(groups).any():
        msg = f"`ranked` has none of the groups {groups}; it has {list(table['group'].unique())}. Rename its groups."
        raise ValueError(msg)
    # names of genes may occur twice
    table = table.drop_duplicates(["group", "names"])
    return table.pivot(index="group", columns="names", values="scores").reindex(index=groups, columns=genes)


def _axes(axes: Any, n_panels: int, n_groups: int, n_genes: int) -> npt.NDArray[np.object_]:
    import matplotlib.pyplot as plt

    if axes is None:
        size = (2.2 + n_panels * (_CELL * n_groups + 1.2), _CELL * 0.8 * n_genes + 1.6)
        return plt.subplots(1, n_panels, figsize=size, layout="constrained", sharey=True, squeeze=False)[1][0]
    places = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(places) != n_panels:
        msg = f"There are {n_panels} panels to draw, but {len(places)} axes."
        raise ValueError(msg)
    return places


def _draw(ax: Axes, colors: pd.DataFrame, share: pd.DataFrame, name: str) -> None:
    """Dots of genes (rows, the first on top) and groups (columns)."""
    from matplotlib.colors import TwoSlopeNorm

    column, row = np.meshgrid(np.arange(len(colors)), np.arange(colors.shape[1]), indexing="ij")
    shades, sizes = colors.to_numpy(np.float64).ravel(), _LARGEST_DOT * share.to_numpy(np.float64).ravel()
    # a few genes stand out so far that no other would have a colour
    largest = float(np.nanquantile(np.abs(shades), 0.98)) if np.isfinite(shades).any() else 1.0
    norm = TwoSlopeNorm(0.0, -max(largest, 1e-12), max(largest, 1e-12))
    known = np.isfinite(shades)
    place: dict[str, Any] = {"edgecolors": "0.4", "linewidths": 0.4, "clip_on": False}
    ax.scatter(column.ravel()[~known], row.ravel()[~known], s=sizes[~known], c=MISSING_COLOR, **place)
    dots = ax.scatter(
        column.ravel()[known], row.ravel()[known], s=sizes[known], c=shades[known], cmap="RdBu_r", norm=norm, **place
    )
    figure: Any = ax.figure
    figure.colorbar(dots, ax=ax, label=name, location="top", shrink=0.9, aspect=25, pad=0.02, extend="both")
    ax.set_xticks(range(len(colors)), list(colors.index), rotation=90, fontsize=8)
    ax.set_yticks(range(colors.shape[1]), list(colors.columns), fontsize=7, style="italic")
    ax.set(xlim=(-0.7, len(colors) - 0.3), ylim=(colors.shape[1] - 0.3, -0.7))
    ax.grid(color="0.94")
    ax.set_axisbelow(True)
    hide_frame(ax)


def _legend(ax: Axes) -> None:
    handles = [
        ax.scatter([], [], s=_LARGEST_DOT * share, color="0.6", edgecolors="0.4", linewidths=0.4, label=f"{share:.0%}")
        for share in _SHARES
    ]
    ax.legend(
        handles=handles,
        title="cells that\nshow the gene",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        labelspacing=1.0,
    )
