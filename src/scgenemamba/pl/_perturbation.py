"""Effects of perturbed genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._style import MISSING_COLOR, colors_of, hide_frame, new_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

# below this, p-values differ by nothing that a figure should show
_LEAST = 1e-300


def perturbation_volcano(
    table: pd.DataFrame,
    *,
    group: str | None = None,
    max_fdr: float = 0.05,
    n_labels: int = 10,
    genes: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw effects of genes, less those of their controls, against how sure they are.

    Parameters
    ----------
    table
        What :func:`~scgenemamba.tl.perturbation_effects` returned.
    group
        Group to draw, where the table has several.
    max_fdr
        False discovery rate up to which genes are coloured.
    n_labels
        Coloured genes that are named, those with the largest difference.
    genes
        Genes to name instead.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    KeyError
        If the table lacks a column, or does not have one of the genes.
    ValueError
        If there are several groups and none is chosen, or there is nothing to draw.
    """
    shown = _of_group(table, group).dropna(subset=["fdr"])
    if shown.empty:
        msg = "There is nothing to draw: no gene was tested against controls."
        raise ValueError(msg)
    ax = new_axes(4.6, 3.8) if ax is None else ax
    difference = shown["effect"] - shown["control"]
    height = -np.log10(shown["fdr"].clip(lower=_LEAST))
    found = shown["fdr"] <= max_fdr
    color = colors_of([0])[0]
    ax.scatter(difference[~found], height[~found], s=8, color=MISSING_COLOR, lw=0, rasterized=True)
    ax.scatter(difference[found], height[found], s=10, color=color, lw=0, rasterized=True)
    ax.axhline(-np.log10(max_fdr), color="0.6", lw=0.8, ls=":")
    ax.axvline(0, color="0.6", lw=0.8)
    for row in _named(shown, difference[found], genes, n_labels):
        ax.annotate(
            shown["gene"][row],
            (difference[row], height[row]),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=7,
        )
    ax.margins(x=0.12)
    ax.set(xlabel="effect beyond that of control genes", ylabel="-log10 false discovery rate")
    hide_frame(ax)
    return ax


def perturbation_heatmap(
    table: pd.DataFrame, *, n_genes: int = 5, genes: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw effects of genes by group of cells.

    Parameters
    ----------
    table
        What :func:`~scgenemamba.tl.perturbation_effects` returned with ``groupby``.
    n_genes
        Genes of each group to draw, those with the largest effect beyond that of their controls.
    genes
        Genes to draw instead.
    ax
        Axes to draw into, ``None`` for new ones.

    Raises
    ------
    KeyError
        If the table lacks a column, or does not have one of the genes.
    """
    import seaborn as sns

    _check(table, ["group", "gene", "effect", "control"])
    told = table.assign(difference=table["effect"] - table["control"].fillna(0))
    if genes is None:
        largest = told.reindex(told["difference"].abs().sort_values(ascending=False).index)
        chosen = largest.groupby("group", sort=False, observed=True).head(n_genes)
        # side by side what stands out in the same group
        groups = list(told["group"].drop_duplicates())
        genes = list(chosen.sort_values("group", key=lambda c: c.map(groups.index), kind="stable")["gene"].unique())
    _check_genes(table, genes)
    values = told.pivot(index="group", columns="gene", values="difference")
    values = values.loc[told["group"].drop_duplicates(), list(genes)]
    ax = new_axes(1.6 + 0.22 * len(genes), 1.2 + 0.26 * len(values)) if ax is None else ax
    ax.set_facecolor(MISSING_COLOR)
    limit = float(np.nanmax(np.abs(values.to_numpy()))) or 1.0
    sns.heatmap(
        values,
        ax=ax,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        xticklabels=True,
        yticklabels=True,
        cbar_kws={"label": "effect beyond\nthat of control genes", "shrink": 0.8},
    )
    ax.set(xlabel="", ylabel="")
    ax.tick_params(labelsize=8, length=0)
    return ax


def _of_group(table: pd.DataFrame, group: str | None) -> pd.DataFrame:
    _check(table, ["gene", "effect", "control", "fdr"])
    if "group" not in table:
        return table
    there = list(table["group"].drop_duplicates())
    if group is None and len(there) > 1:
        msg = f"The table has {len(there)} groups: choose one of {there}, `group=`."
        raise ValueError(msg)
    if group is not None and group not in there:
        msg = f"`group`: there is no {group!r}; there are {there}."
        raise KeyError(msg)
    return table if group is None else table[table["group"] == group]


def _named(shown: pd.DataFrame, difference: pd.Series, genes: Sequence[str] | None, n: int) -> Sequence[int]:
    if genes is None:
        return list(difference.abs().nlargest(n).index)
    _check_genes(shown, genes)
    return list(shown.index[shown["gene"].isin(list(genes))])


def _check(table: pd.DataFrame, columns: list[str]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        msg = f"The table has no column {missing[0]!r}; it has {[*table.columns]}. Give what `tl.perturbation_effects` returned."
        raise KeyError(msg)


def _check_genes(table: pd.DataFrame, genes: Sequence[str]) -> None:
    missing = [gene for gene in genes if gene not in set(table["gene"])]
    if missing:
        msg = f"`genes`: the table has no {missing[0]!r}."
        raise KeyError(msg)
